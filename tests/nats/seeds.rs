//! What the fuzzer checks, on the transcripts of real servers that it starts from: whole, cut short,
//! and with each byte damaged.

use std::path::Path;

#[path = "../../fuzz/check.rs"]
mod check;

/// Ends of what there is, and beginnings of something else.
const DAMAGE: [u8; 7] = [0, b'\n', b' ', b'9', 0x7F, 0x82, 0xFF];

#[test]
fn the_seeds_of_the_fuzzer() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/decoder");
    let mut count = 0;
    for seed in std::fs::read_dir(seeds).expect("the seeds") {
        let mut input = std::fs::read(seed.expect("a seed").path()).expect("a seed");
        check::check(&input);
        for at in 0..input.len() {
            // All of them would take half a minute without optimizations.
            if at % 4 == 0 {
                check::check(&input[..at]);
            }
            let byte = std::mem::replace(&mut input[at], DAMAGE[at % DAMAGE.len()]);
            check::check(&input);
            input[at] = byte;
        }
        count += 1;
    }
    assert!(count >= 14, "{count}");
}
