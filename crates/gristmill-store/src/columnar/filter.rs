//! A split-block Bloom filter over the identities of a part.
//!
//! Each identity sets eight bits within one block of 32 bytes, so a question costs one read of
//! 32 bytes, which the operating system's page cache answers. At 20 bits an identity about one
//! in 10,000 strangers passes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::files::{append_crc, damaged};
use super::identity::Identity;
use crate::StoreError;

const BITS_PER_IDENTITY: usize = 20;
const BLOCK_BYTES: usize = 32;
const SALTS: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// A filter that is being built. Its size is fixed by how many identities are expected; more of
/// them make it less sharp, not wrong.
#[derive(Debug)]
pub(super) struct FilterBuilder {
    bytes: Vec<u8>,
    blocks: usize,
}

impl FilterBuilder {
    pub(super) fn for_identities(expected: u64) -> Self {
        let blocks = (expected as usize * BITS_PER_IDENTITY).div_ceil(BLOCK_BYTES * 8).max(1);
        Self { bytes: vec![0; blocks * BLOCK_BYTES], blocks }
    }

    pub(super) fn insert(&mut self, identity: Identity) {
        let start = block_of(identity, self.blocks) * BLOCK_BYTES;
        let block = &mut self.bytes[start..start + BLOCK_BYTES];
        for (word, bit) in block.as_chunks_mut::<4>().0.iter_mut().zip(mask(identity)) {
            *word = (u32::from_le_bytes(*word) | bit).to_le_bytes();
        }
    }

    /// The bytes of the file: the blocks, then their CRC.
    pub(super) fn finish(mut self) -> Vec<u8> {
        append_crc(&mut self.bytes);
        self.bytes
    }
}

/// A filter on disk.
#[derive(Debug)]
pub(super) struct Filter {
    file: File,
    blocks: usize,
}

impl Filter {
    /// Opens a filter and verifies all of it once.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let bytes = std::fs::read(path).map_err(|error| {
            StoreError::Damaged(format!("cannot read {}: {error}", path.display()))
        })?;
        let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
            return Err(damaged(path));
        };
        let intact = crc32fast::hash(body) == u32::from_le_bytes(*crc);
        if !intact || body.is_empty() || body.len() % BLOCK_BYTES != 0 {
            return Err(damaged(path));
        }
        Ok(Self { file: File::open(path)?, blocks: body.len() / BLOCK_BYTES })
    }

    /// Whether the identity may be in the part; `false` is certain.
    pub(super) fn may_contain(&self, identity: Identity) -> Result<bool, StoreError> {
        let mut block = [0; BLOCK_BYTES];
        let start = block_of(identity, self.blocks) * BLOCK_BYTES;
        self.file.read_exact_at(&mut block, start as u64)?;
        Ok(block
            .as_chunks::<4>()
            .0
            .iter()
            .zip(mask(identity))
            .all(|(word, bit)| u32::from_le_bytes(*word) & bit != 0))
    }
}

fn block_of(identity: Identity, blocks: usize) -> usize {
    let high = (identity >> 64) as u64;
    ((u128::from(high) * blocks as u128) >> 64) as usize
}

fn mask(identity: Identity) -> [u32; 8] {
    SALTS.map(|salt| 1 << ((identity as u32).wrapping_mul(salt) >> 27))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(identities: &[Identity]) -> Vec<u8> {
        let mut builder = FilterBuilder::for_identities(identities.len() as u64);
        identities.iter().for_each(|&identity| builder.insert(identity));
        builder.finish()
    }

    fn spread(number: u64) -> Identity {
        let hash = |seed| xxhash_rust::xxh3::xxh3_64_with_seed(&number.to_le_bytes(), seed);
        Identity::from(hash(1)) << 64 | Identity::from(hash(2))
    }

    #[test]
    fn knows_all_it_holds_and_few_strangers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("filter");
        let held: Vec<_> = (0..50_000).map(spread).collect();
        std::fs::write(&path, build(&held)).unwrap();
        let filter = Filter::open(&path).unwrap();
        assert!(held.iter().all(|&identity| filter.may_contain(identity).unwrap()));
        let strangers =
            (50_000..150_000).filter(|&number| filter.may_contain(spread(number)).unwrap()).count();
        assert!(strangers < 100, "{strangers} of 100,000 strangers passed");
    }

    #[test]
    fn every_flipped_bit_is_noticed_on_opening() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("filter");
        let intact = build(&[spread(1), spread(2)]);
        for bit in 0..intact.len() * 8 {
            let mut bytes = intact.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            assert!(Filter::open(&path).is_err(), "bit {bit}");
        }
    }
}
