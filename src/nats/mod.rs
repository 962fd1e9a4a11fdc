//! Our own NATS client: protocol and session as pure machines; a host gives them a socket.
