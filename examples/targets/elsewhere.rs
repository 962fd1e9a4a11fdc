// What an example for Lunatic is on other targets, so that `cargo test` has something to build.

pub fn main() {
    println!("This example runs under Lunatic: see the README for how to start it there.");
}
