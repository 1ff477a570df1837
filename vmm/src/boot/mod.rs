//! Boot loaders.
