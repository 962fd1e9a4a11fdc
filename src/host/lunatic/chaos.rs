//! How an agent dies here: see [`Death`].

use std::hint::black_box;

use async_trait::async_trait;

use super::mail;
use super::sys;
use crate::agent::chaos::{self, Death, Dying};
use crate::error::Result;

/// The built-in type `chaos`.
pub type Chaos = chaos::Chaos<Here>;

/// The ways to die of a process.
#[derive(Debug)]
pub struct Here;

#[async_trait]
impl Dying for Here {
    async fn die(death: Death) -> Result<()> {
        die(death)
    }
}

/// Those of the demo, in their order, with what they are.
pub(in crate::host) const DEMO: [Death; 5] =
    [Death::Panic, Death::Memory, Death::Stack, Death::Loop, Death::Panic];

/// Those that would end more than the agent.
pub(in crate::host) const NOT_CONTAINED: [Death; 0] = [];

/// Dies.
pub fn die(death: Death) -> ! {
    match death {
        Death::Panic => panic!("told to panic"),
        Death::Memory => eat_memory(),
        Death::Loop => spin(),
        Death::Stack => {
            black_box(recurse(black_box(0)));
            unreachable!("the stack is finite")
        }
        Death::Exit => std::process::exit(3),
        Death::Hang => loop {
            sys::receive(&[mail::new_tag()], None);
        },
    }
}

fn eat_memory() -> ! {
    const PIECE: usize = 1 << 20;
    let mut eaten = Vec::new();
    loop {
        eaten.push(black_box(vec![1_u8; PIECE]));
    }
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

#[allow(unconditional_recursion)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    recurse(frame[0] + 1) + frame[63]
}
