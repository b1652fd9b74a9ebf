//! Opens listening sockets, one for each worker, all on the same address. It does not keep them: sockets outlive
//! configurations, so their owner is the control side.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::io::UNSENT;

/// Connections that wait in one socket's queue to be accepted; the system may allow fewer (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Opens `count` sockets that listen on `address`, ready for a non-blocking accept. The system spreads new connections over
/// them (`SO_REUSEPORT`). With port 0 the first socket is given a free port and the others share it; ask a socket's
/// `local_addr` for it. `::` takes IPv4 connections too; every other IPv6 address takes IPv6 alone.
///
/// # Errors
/// The address is not this machine's, the port is privileged, or somebody else listens there: also another gateway of the
/// same user, with which the system would otherwise share the port silently.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        // Without SO_REUSEPORT this fails where anybody listens.
        socket(address)?.bind(&address.into())?;
    }
    bind_beside(address, count)
}

/// The same where this gateway itself listens on the port, on an address that contains this one or is contained in it: a listener that
/// moves from `0.0.0.0` to `127.0.0.1`, for instance.
///
/// # Errors
/// As [`bind`], except that another gateway of the same user is not noticed.
pub fn bind_beside(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let mut address = address;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = socket(address)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        // Accepted connections inherit it. A system that does not know it takes more.
        socket.set_tcp_notsent_lowat(UNSENT).ok();
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        address.set_port(listener.local_addr()?.port());
        listeners.push(listener);
    }
    Ok(listeners)
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Connections of an earlier process that are still in TIME_WAIT do not hold the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn all_sockets_share_the_port_that_the_first_one_got() {
        let listeners = bind(LOOPBACK, 3).unwrap();
        let ports: Vec<u16> = listeners.iter().map(|each| each.local_addr().unwrap().port()).collect();
        assert_ne!(ports[0], 0);
        assert_eq!(ports, [ports[0]; 3]);
    }

    #[test]
    fn accepting_does_not_block() {
        let listeners = bind(LOOPBACK, 1).unwrap();
        assert_eq!(listeners[0].accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn the_system_takes_little_for_a_client_that_reads_nothing() {
        let listeners = bind(LOOPBACK, 1).unwrap();
        listeners[0].set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(listeners[0].local_addr().unwrap()).unwrap();
        let accepted = Socket::from(listeners[0].accept().unwrap().0);
        assert_eq!(accepted.tcp_notsent_lowat().unwrap(), UNSENT);
    }

    #[test]
    fn a_port_on_which_another_gateway_listens_is_refused() {
        let first = bind(LOOPBACK, 2).unwrap();
        let taken = first[0].local_addr().unwrap();
        assert_eq!(bind(taken, 2).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn an_own_port_is_shared_for_a_moment() {
        let first = bind((Ipv4Addr::UNSPECIFIED, 0).into(), 2).unwrap();
        let on_loopback = SocketAddr::new(LOOPBACK.ip(), first[0].local_addr().unwrap().port());
        assert_eq!(bind(on_loopback, 2).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(bind_beside(on_loopback, 2).unwrap()[1].local_addr().unwrap(), on_loopback);
    }

    #[test]
    fn a_port_can_be_opened_again_while_old_connections_linger() {
        let first = bind(LOOPBACK, 1).unwrap();
        let address = first[0].local_addr().unwrap();
        first[0].set_nonblocking(false).unwrap();
        let client = TcpStream::connect(address).unwrap();
        // Our side closes first, so our side is the one in TIME_WAIT.
        drop(first[0].accept().unwrap());
        drop(client);
        drop(first);
        assert_eq!(bind(address, 1).unwrap()[0].local_addr().unwrap(), address);
    }

    #[test]
    fn the_unspecified_ipv6_address_takes_ipv4_too_and_loopback_does_not() {
        let port =
            |address: &str| bind(address.parse().unwrap(), 1).map(|all| (all[0].local_addr().unwrap().port(), all));
        // Machines without IPv6 exist; what can be said there is only that binding fails.
        let Ok((port_of_any, _any)) = port("[::]:0") else { return };
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port_of_any)).is_ok());
        let Ok((port_of_loopback, _loopback)) = port("[::1]:0") else { return };
        assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port_of_loopback)).is_err());
        assert!(TcpStream::connect((Ipv6Addr::LOCALHOST, port_of_loopback)).is_ok());
    }
}
