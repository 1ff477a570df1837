//! Contract: see the module list of the parent.
