#[derive(Default)]
pub struct AcpiConfig;
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct AcpiError;
pub struct T {
    pub rsdp_at: u64,
    pub blobs: Vec<(u64, Vec<u8>)>,
}
pub fn build(_: &AcpiConfig) -> Result<T, AcpiError> {
    Ok(T {
        rsdp_at: 0xe0000,
        blobs: vec![],
    })
}
