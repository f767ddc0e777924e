//! Writes `src/generated` anew from `proto/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    generate(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated"))
}

/// Writes the types and the descriptors of all files below `proto/` into a folder.
pub(crate) fn generate(folder: &Path) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let mut files = Vec::new();
    proto_files(&root, &mut files)?;
    files.sort();
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    let descriptors = compiler.encode_file_descriptor_set();
    fs::write(folder.join("descriptors.bin"), descriptors)?;
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_package(true)
        .btree_map(".")
        .bytes(".")
        .out_dir(folder)
        .compile_fds(compiler.file_descriptor_set())
        .context("cannot write the types")
}

fn proto_files(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            proto_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    Ok(())
}
