//! The frame check sequence, IEEE 802.3 clause 3.2.9: CRC-32, eight bytes at a time, for every frame received carries one.

const POLYNOMIAL: u32 = 0xedb8_8320;

/// `TABLES[n][b]`: what byte `b` followed by `n` zero bytes does to the remainder.
const TABLES: [[u32; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 {
                crc >> 1 ^ POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut n = 1;
    while n < 8 {
        let mut byte = 0;
        while byte < 256 {
            let crc: u32 = tables[n - 1][byte];
            tables[n][byte] = crc >> 8 ^ tables[0][(crc & 0xff) as usize];
            byte += 1;
        }
        n += 1;
    }
    tables
};

/// The remainder after `bytes`, before it is complemented: what the hash filter looks at.
pub fn remainder(bytes: &[u8]) -> u32 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let crc = chunks.iter().fold(!0, |crc: u32, &chunk| {
        let word = u64::from_le_bytes(chunk) ^ u64::from(crc);
        (word.to_le_bytes().iter().zip(TABLES.iter().rev()))
            .fold(0, |crc, (&byte, table)| crc ^ table[usize::from(byte)])
    });
    rest.iter().fold(crc, |crc, &byte| {
        crc >> 8 ^ TABLES[0][usize::from(crc as u8 ^ byte)]
    })
}

/// The four bytes that follow `bytes` on the wire.
pub fn sequence(bytes: &[u8]) -> [u8; 4] {
    (!remainder(bytes)).to_le_bytes()
}

/// Whether the last four bytes are the sequence of those before them.
pub fn holds(image: &[u8]) -> bool {
    image
        .split_last_chunk::<4>()
        .is_some_and(|(bytes, last)| *last == sequence(bytes))
}
