//! The reader: dials, upgrades, and then reads, for as long as its socket lives.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use rust_wasm_lunatic_nats::nats::{
    Decoder, Frame, FrameReader, Handshake, ServerUrl, UpgradeHeaders,
};

use crate::owner::{Mail, random};

/// Starts one on a thread of its own. What it has to say it says to `owner`; once that is gone, it
/// ends with the next thing that it reads.
pub(crate) fn start(
    dial: u64,
    server: ServerUrl,
    headers: UpgradeHeaders,
    within: Duration,
    owner: SyncSender<Mail>,
) {
    std::thread::spawn(move || {
        let (stream, rest) = match connect(&server, &headers, within) {
            Ok(connected) => connected,
            Err(reason) => return drop(owner.send(Mail::DialFailed { dial, reason })),
        };
        let reason = match stream.try_clone() {
            Ok(writer) => {
                if owner.send(Mail::Opened { dial, stream: writer }).is_err() {
                    return;
                }
                read(dial, stream, &rest, &owner)
            }
            Err(error) => error.to_string(),
        };
        let _ = owner.send(Mail::Closed { dial, reason });
    });
}

/// A socket that is a WebSocket, and what came behind the server's answer already.
fn connect(
    server: &ServerUrl,
    headers: &UpgradeHeaders,
    within: Duration,
) -> Result<(TcpStream, Vec<u8>), String> {
    let within = within.max(Duration::from_millis(1));
    let text = |error: std::io::Error| error.to_string();
    let mut addresses = (server.host(), server.port()).to_socket_addrs().map_err(text)?;
    let address = addresses.next().ok_or("the host has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, within).map_err(text)?;
    stream.set_nodelay(true).map_err(text)?;
    // The session gives the whole attempt up in time; this is for the thread, which is to end.
    stream.set_read_timeout(Some(within)).map_err(text)?;
    let mut handshake = Handshake::new(server, headers, random());
    stream.write_all(handshake.request()).map_err(text)?;
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).map_err(text)?;
        if read == 0 {
            return Err("the server closed the connection".to_owned());
        }
        let answer = handshake.feed(&buffer[..read]).map_err(|error| error.to_string())?;
        if let Some(end) = answer {
            stream.set_read_timeout(None).map_err(text)?;
            return Ok((stream, buffer[end..read].to_vec()));
        }
    }
}

/// Reads until the connection ends, and says why.
fn read(dial: u64, mut stream: TcpStream, rest: &[u8], owner: &SyncSender<Mail>) -> String {
    let mut frames = FrameReader::default();
    let mut decoder = Decoder::default();
    let mut input = |bytes: &[u8]| take(dial, bytes, &mut frames, &mut decoder, owner);
    if let Err(reason) = input(rest) {
        return reason;
    }
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match stream.read(&mut buffer) {
            Ok(0) => return "the server closed the connection".to_owned(),
            Ok(read) => read,
            Err(error) => return format!("the connection ended: {error}"),
        };
        if let Err(reason) = input(&buffer[..read]) {
            return reason;
        }
    }
}

fn take(
    dial: u64,
    mut bytes: &[u8],
    frames: &mut FrameReader,
    decoder: &mut Decoder,
    owner: &SyncSender<Mail>,
) -> Result<(), String> {
    let (mut ops, mut end) = (Vec::new(), Ok(()));
    while let Some(frame) = frames.next(&mut bytes).map_err(|error| error.to_string())? {
        match frame {
            Frame::Data(data) => {
                decoder.feed(data).map_err(|error| error.to_string())?;
                while let Some(op) = decoder.next_op().map_err(|error| error.to_string())? {
                    ops.push(op);
                }
            }
            Frame::Ping(payload) => drop(owner.send(Mail::WebSocketPing { dial, payload })),
            // What came before says why.
            Frame::Close(reason) => end = Err(format!("the server closed the WebSocket: {reason}")),
        }
    }
    if !ops.is_empty() {
        owner.send(Mail::Ops { dial, ops }).map_err(|_| "nobody listens any more".to_owned())?;
    }
    end
}
