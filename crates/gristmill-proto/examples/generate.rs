//! Writes `src/generated` anew from `proto/`, and adds what is new to `proto/wire.txt`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

fn main() -> anyhow::Result<()> {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = generate(&crate_folder.join("src/generated"))?;
    let wire = wire(&descriptors);
    let path = proto_folder().join("wire.txt");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let gone: Vec<_> = text.lines().filter(|line| !wire.contains(*line)).collect();
    anyhow::ensure!(gone.is_empty(), "clients know these, and they are gone: {gone:#?}");
    let lines: Vec<_> = wire.into_iter().collect();
    Ok(fs::write(path, lines.join("\n") + "\n")?)
}

/// Where the proto files are.
pub(crate) fn proto_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto")
}

/// Writes the types and the descriptors of all files below `proto/` into a folder.
pub(crate) fn generate(folder: &Path) -> anyhow::Result<FileDescriptorSet> {
    let root = proto_folder();
    let mut files = Vec::new();
    proto_files(&root, &mut files)?;
    files.sort();
    let mut compiler = protox::Compiler::new([&root])?;
    compiler.include_imports(true).include_source_info(true).open_files(&files)?;
    fs::write(folder.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;
    let descriptors = compiler.file_descriptor_set();
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_package(true)
        .btree_map(".")
        .bytes(".")
        .out_dir(folder)
        .compile_fds(descriptors.clone())
        .context("cannot write the types")?;
    Ok(descriptors)
}

/// A line for everything that clients of the public packages rely on: each method, field and value of an
/// enumeration with its types and numbers.
pub(crate) fn wire(descriptors: &FileDescriptorSet) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in &descriptors.file {
        let package = file.package();
        if package.split('.').next() != Some("analytics") {
            continue;
        }
        for service in &file.service {
            for method in &service.method {
                let stream = |is_stream: bool| if is_stream { "stream " } else { "" };
                lines.insert(format!(
                    "rpc {package}.{}/{}({}{}) returns ({}{})",
                    service.name(),
                    method.name(),
                    stream(method.client_streaming()),
                    method.input_type(),
                    stream(method.server_streaming()),
                    method.output_type(),
                ));
            }
        }
        file.message_type.iter().for_each(|message| of_message(package, message, &mut lines));
        file.enum_type.iter().for_each(|choice| of_enum(package, choice, &mut lines));
    }
    lines
}

fn of_message(scope: &str, message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    let scope = format!("{scope}.{}", message.name());
    for field in &message.field {
        let oneof = field.oneof_index.and_then(|index| message.oneof_decl.get(index as usize));
        let oneof = oneof.map_or(String::new(), |oneof| format!(" of {}", oneof.name()));
        lines.insert(format!(
            "field {scope}.{} = {}: {}{oneof}",
            field.name(),
            field.number(),
            kind(field)
        ));
    }
    message.nested_type.iter().for_each(|nested| of_message(&scope, nested, lines));
    message.enum_type.iter().for_each(|choice| of_enum(&scope, choice, lines));
}

fn of_enum(scope: &str, choice: &EnumDescriptorProto, lines: &mut BTreeSet<String>) {
    for value in &choice.value {
        lines.insert(format!(
            "value {scope}.{}.{} = {}",
            choice.name(),
            value.name(),
            value.number()
        ));
    }
}

fn kind(field: &FieldDescriptorProto) -> String {
    let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
    let name = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    format!("{repeated}{name}")
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
