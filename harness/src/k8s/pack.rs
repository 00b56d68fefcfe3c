//! A run directory as one piece of bytes (tar in zstd) and back.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};

/// Left out: whoever unpacks draws it anew from the rest.
const LEFT_OUT: &str = "report.html";
/// Run directories are text that says the same again and again; this level takes a second for 50 MB.
const LEVEL: i32 = 9;

/// Packs a directory.
///
/// # Errors
/// If something in it cannot be read.
pub(crate) fn pack(dir: &Path) -> Result<Vec<u8>> {
    let reading = || format!("cannot pack {}", dir.display());
    let mut encoder = zstd::Encoder::new(Vec::new(), LEVEL).with_context(reading)?;
    // What arrives damaged is not taken for a history.
    encoder.include_checksum(true).with_context(reading)?;
    let mut archive = tar::Builder::new(encoder);
    archive.follow_symlinks(false);
    append(&mut archive, dir, Path::new("")).with_context(reading)?;
    let encoder = archive.into_inner().with_context(reading)?;
    encoder.finish().with_context(reading)
}

fn append<W: io::Write>(
    archive: &mut tar::Builder<W>,
    dir: &Path,
    within: &Path,
) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, name) = (entry.path(), within.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            append(archive, &path, &name)?;
        } else if kind.is_file() && entry.file_name() != LEFT_OUT {
            archive.append_path_with_name(&path, &name)?;
        }
    }
    Ok(())
}

/// Unpacks what [`pack`] has made into a directory that is there. Nothing is written outside of it,
/// whatever the bytes say.
///
/// # Errors
/// If the bytes are damaged, or something cannot be written.
pub(crate) fn unpack(bytes: &[u8], dir: &Path) -> Result<()> {
    let decoder = zstd::Decoder::new(bytes).context("the results are damaged")?;
    let mut archive = tar::Archive::new(decoder);
    archive.set_preserve_mtime(false);
    archive.set_preserve_permissions(false);
    archive
        .unpack(dir)
        .with_context(|| format!("cannot unpack the results into {}", dir.display()))?;
    // The checksum stands behind what an archive ends with.
    io::copy(&mut archive.into_inner(), &mut io::sink()).context("the results are damaged")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_comes_back_as_it_was_but_for_the_report() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("nodes")).unwrap();
        let history = "{\"index\":0}\n".repeat(100_000);
        for (name, text) in [
            ("history.jsonl", history.as_str()),
            ("nodes/n1.log", "started\n"),
            ("report.html", "<html>"),
            ("empty", ""),
        ] {
            fs::write(from.path().join(name), text).unwrap();
        }
        let bytes = pack(from.path()).unwrap();
        assert!(bytes.len() < history.len() / 20, "{}", bytes.len());
        unpack(&bytes, to.path()).unwrap();
        for name in ["history.jsonl", "nodes/n1.log", "empty"] {
            assert_eq!(
                fs::read(from.path().join(name)).unwrap(),
                fs::read(to.path().join(name)).unwrap()
            );
        }
        assert!(!to.path().join("report.html").exists());
    }

    #[test]
    fn damage_is_seen() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(from.path().join("a"), "abc".repeat(1000)).unwrap();
        let bytes = pack(from.path()).unwrap();
        assert!(unpack(&bytes[..bytes.len() - 5], to.path()).is_err());
        for i in (0..bytes.len()).step_by(7) {
            let mut changed = bytes.clone();
            changed[i] ^= 0x10;
            let to = tempfile::tempdir().unwrap();
            if unpack(&changed, to.path()).is_ok() {
                let text = fs::read_to_string(to.path().join("a")).unwrap_or_default();
                assert_eq!(text, "abc".repeat(1000), "byte {i}");
            }
        }
    }
}
