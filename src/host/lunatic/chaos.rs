//! The built-in type `chaos`, which dies as it is told, and the ways to die.

use std::hint::black_box;

use async_trait::async_trait;
use serde_json::Value;

use super::mail;
use super::sys;
use crate::agent::{Agent, Context};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::supervision::FailureType;

/// A way to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// A panic.
    Panic,
    /// More memory than the limit allows.
    Memory,
    /// A loop that never ends.
    Loop,
    /// A recursion that never ends.
    Stack,
    /// `exit(3)`.
    Exit,
    /// To wait for ever for a message that never comes.
    Hang,
}

impl Death {
    /// All of them, by the names that `chaos` takes.
    pub const ALL: [(&'static str, Self); 6] = [
        ("panic", Self::Panic),
        ("memory", Self::Memory),
        ("loop", Self::Loop),
        ("stack", Self::Stack),
        ("exit", Self::Exit),
        ("hang", Self::Hang),
    ];

    /// The way with this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|&(_, death)| death)
    }

    /// What a payload asks for: none if it is no object with a field `die`.
    pub fn asked_for(payload: &Value) -> Result<Option<Self>> {
        let Some(name) = payload.get("die") else { return Ok(None) };
        name.as_str().and_then(Self::by_name).map(Some).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name).join(", ");
            Error::failure(
                FailureType::ProtocolViolation,
                format!("die is {name}, and must be one of {names}"),
            )
        })
    }
}

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

/// `chaos`: answers like `echo`, except that `{"die": …}` makes it do so.
#[derive(Debug, Default)]
pub struct Chaos;

#[async_trait]
impl Agent for Chaos {
    async fn handle(&mut self, ctx: &mut Context, message: Message) -> Result<()> {
        match Death::asked_for(&message.payload)? {
            Some(death) => die(death),
            None => {
                let payload = message.payload.clone();
                ctx.answer(&message, payload).await
            }
        }
    }
}
