//! The fuzz targets' bodies over the seeds they start from, so that every build runs them.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::{fs, path::Path};

use tidegate_policies::fuzzing;

fn over_seeds(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let mut seeds = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        body(&bytes);
        (0..bytes.len()).step_by(bytes.len() / 64 + 1).for_each(|cut| body(&bytes[..cut]));
        seeds += 1;
    }
    assert!(seeds >= 10, "{target} has only {seeds} seeds");
}

#[test]
fn token_seeds_do_no_harm() {
    over_seeds("token", fuzzing::token);
}

#[test]
fn credential_seeds_do_no_harm() {
    over_seeds("credentials", fuzzing::credentials);
}
