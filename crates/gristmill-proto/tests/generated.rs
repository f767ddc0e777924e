//! What is committed in `src/generated` is what `proto/` says.

use std::fs;
use std::path::Path;

#[path = "../examples/generate.rs"]
#[allow(dead_code, reason = "`main` is the example's")]
mod generate;

#[test]
fn generated_code_is_what_the_proto_files_say() -> anyhow::Result<()> {
    let anew = tempfile::tempdir()?;
    generate::generate(anew.path())?;
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated");
    let mut count = 0;
    for entry in fs::read_dir(anew.path())? {
        let name = entry?.file_name();
        let is_same = fs::read(anew.path().join(&name))? == fs::read(committed.join(&name))?;
        assert!(
            is_same,
            "{} is older than proto/: run `cargo run -p gristmill-proto --example generate`",
            name.display()
        );
        count += 1;
    }
    assert_eq!(count, fs::read_dir(&committed)?.count(), "a file too many in src/generated");
    Ok(())
}
