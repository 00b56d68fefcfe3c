//! The substrate on networks of its own, with nodes that are stand-ins.

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use checkers::Outcome;
use nemesis::mechanism::namespace::Namespace;
use nemesis::mechanism::{firewall, queue, tool};
use nemesis::{Action, Impairment, Node, Proof};

use super::stand_in::{Scratch, between, from_clients, not_seen, ping, program, seen, start_on};
use crate::experiment::On;
use crate::local::LocalSubstrate;
use crate::local::network::{Namespaces, Network};
use crate::substrate::{Happening, Substrate};

/// Long enough for anything here, in nanoseconds.
const PATIENCE: u64 = 60_000_000_000;

struct Run {
    substrate: LocalSubstrate,
    _scratch: Scratch,
}

/// Does it on a thread in a network of its own, where the machine allows that.
fn with_nodes(name: &str, nodes: u16, test: impl FnOnce(Run) + Send) {
    let home = match Namespace::create() {
        Ok(home) if firewall::available().is_ok() && queue::available().is_ok() => home,
        Ok(_) => return eprintln!("not tested: nftables or NFQUEUE is missing"),
        Err(error) => return eprintln!("not tested: no network namespaces: {error}"),
    };
    home.run(|| {
        let scratch = Scratch::new(name);
        test(Run {
            substrate: start_on(On::Netns, nodes, &scratch.0, &program()).unwrap(),
            _scratch: scratch,
        });
    })
    .unwrap();
}

impl Run {
    fn next(&mut self) -> Happening {
        let deadline = self.substrate.now() + PATIENCE;
        self.substrate.next(deadline)
    }

    fn inject_via(&mut self, id: u32, action: &Action, via: Option<&str>) -> Proof {
        self.substrate.inject(id, action, via);
        match self.next() {
            Happening::Injected { id: of, proof } if of == id => proof,
            other => panic!("{other:?}"),
        }
    }

    fn inject(&mut self, id: u32, action: &Action) -> Proof {
        self.inject_via(id, action, None)
    }

    fn heal(&mut self, id: u32) -> Proof {
        self.substrate.heal(id);
        match self.next() {
            Happening::Healed { id: of, proof } if of == id => proof,
            other => panic!("{other:?}"),
        }
    }

    /// Why the fault had faded, and the proof of its healing.
    fn heal_faded(&mut self, id: u32) -> (String, Proof) {
        self.substrate.heal(id);
        match (self.next(), self.next()) {
            (Happening::Faded { why, .. }, Happening::Healed { proof, .. }) => (why, proof),
            other => panic!("{other:?}"),
        }
    }

    fn call(&mut self, node: Node) -> Outcome {
        self.substrate.call(9, node, &ping());
        match self.next() {
            Happening::Completed { completion, .. } => completion.outcome,
            other => panic!("{other:?}"),
        }
    }

    fn network(&self) -> &Namespaces {
        match &self.substrate.cluster.network {
            Network::Namespaces(network) => network,
            Network::Proxies(_) => panic!("there are proxies"),
        }
    }

    /// Runs a program in the network of a node, as somebody else might.
    fn in_network(&self, node: Node, program: &'static str, arguments: &[&str]) -> String {
        let namespace = self.network().namespace(node).unwrap();
        namespace
            .run(|| tool::run(program, arguments))
            .unwrap()
            .unwrap()
    }

    fn answers_administrator(&mut self, node: Node) -> bool {
        self.substrate.poll_view();
        match self.next() {
            Happening::View(view) => view
                .nodes
                .iter()
                .any(|seen| seen.node == node && seen.role.is_some()),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn cuts_are_one_way_and_hold_connections_that_stand() {
    with_nodes("netns-cut", 3, |mut run| {
        assert_eq!(run.call(1), Outcome::Ok);
        let one_way = Action::Cut(vec![between(1, 2)]);
        let proof = run.inject(1, &one_way);
        seen(&proof, "by nftables: 1 of 1 cut links let nothing through");
        seen(&proof, "the way back is open on 1");
        assert_eq!(run.call(2), Outcome::Ok);

        // A connection that stands falls silent, and nobody is told.
        let address = run.network().address(2);
        let namespace = run.network().namespace(3).unwrap();
        let connect = || TcpStream::connect(address).unwrap();
        let mut standing = namespace.run(connect).unwrap();
        let around_two = Action::Cut(vec![between(1, 2), between(3, 2), from_clients(2)]);
        let proof = run.inject(2, &around_two);
        seen(&proof, "3 of 3");
        seen(&proof, "the way back is open on 2");
        std::io::Write::write_all(&mut standing, b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
        standing
            .set_read_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let silence = standing.read(&mut [0; 64]).unwrap_err();
        assert_eq!(silence.kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(run.call(2), Outcome::Info);
        // The administrator's path is not part of the network under test.
        assert!(run.answers_administrator(2));

        seen(
            &run.heal(2),
            "2 of 3 links answer; n1→n2 is still cut by another fault",
        );
        standing
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut status = [0; 12];
        standing.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        assert_eq!(run.call(2), Outcome::Ok);
        seen(&run.heal(1), "1 of 1 links answer");
        seen(&run.heal(1), "1 of 1 links answer");
        assert!(
            !run.in_network(2, "nft", &["list", "ruleset"])
                .contains("fault")
        );

        not_seen(
            &run.inject(3, &Action::Cut(vec![between(1, 1)])),
            "there is no link n1→n1",
        );
        not_seen(
            &run.inject(4, &Action::Cut(vec![between(9, 1)])),
            "there is no n9",
        );
        not_seen(&run.inject(5, &Action::Cut(vec![])), "no link is meant");
        not_seen(
            &run.inject_via(6, &one_way, Some("proxy")),
            "links are cut by nftables here, not by proxy",
        );
    });
}

#[test]
fn a_cut_is_proven_whatever_state_the_node_is_in() {
    with_nodes("netns-states", 2, |mut run| {
        seen(&run.inject(1, &Action::Kill(vec![2])), "n2 ended");
        assert_eq!(run.call(2), Outcome::Fail);
        seen(&run.inject(2, &Action::Cut(vec![between(1, 2)])), "1 of 1");
        seen(&run.heal(2), "n1→n2 passes; n2 is down");
        seen(&run.heal(1), "n2 was restarted and answers");
        seen(&run.inject(3, &Action::Pause(vec![2])), "stopped");
        seen(&run.inject(4, &Action::Cut(vec![between(1, 2)])), "1 of 1");
        seen(&run.heal(4), "n1→n2 passes; n2 is paused");
        seen(&run.heal(3), "n2 runs");
    });
}

#[test]
fn a_cut_that_somebody_takes_away_has_faded() {
    with_nodes("netns-faded", 2, |mut run| {
        let cut = Action::Cut(vec![between(1, 2), between(2, 1)]);
        seen(&run.inject(1, &cut), "2 of 2");
        run.in_network(2, "nft", &["delete", "table", "inet", "quorate"]);
        let (why, proof) = run.heal_faded(1);
        assert_eq!(why, "the rule that cut n1→n2 is gone");
        seen(&proof, "2 of 2 links answer");

        let slow = Action::Impair {
            links: vec![between(1, 2)],
            impairment: Impairment {
                latency_ms: 40,
                ..Impairment::default()
            },
        };
        seen(&run.inject_via(2, &slow, Some("nfqueue")), "by nfqueue");
        run.in_network(2, "iptables", &["-t", "mangle", "-F"]);
        let (why, proof) = run.heal_faded(2);
        assert_eq!(why, "at n2 1 of 1 rules are gone");
        seen(&proof, "1 of 1 links carry all again");
    });
}

#[test]
fn impairments_are_measured_and_undone() {
    with_nodes("netns-impair", 3, |mut run| {
        let impair = |impairment| Action::Impair {
            links: vec![between(1, 2), between(2, 1), from_clients(2)],
            impairment,
        };
        let slow = impair(Impairment {
            latency_ms: 60,
            jitter_ms: 10,
            ..Impairment::default()
        });
        let proof = run.inject_via(1, &slow, Some("nfqueue"));
        seen(&proof, "by nfqueue, on 3 of 3 links: 60 ms ± 10 ms asked");
        assert!(run.answers_administrator(2));
        // A second fault on the same links, and what is left when the first is over.
        let lossy = impair(Impairment {
            loss_percent: 30,
            duplicate_percent: 30,
            reorder_percent: 30,
            ..Impairment::default()
        });
        let proof = run.inject_via(2, &lossy, Some("nfqueue"));
        for part in [
            "30 % lost asked",
            "30 % doubled asked",
            "30 % overtaken asked",
        ] {
            seen(&proof, part);
        }
        seen(&run.heal(1), "0 of 3 links carry all again");
        seen(&run.heal(2), "3 of 3 links carry all again");
        seen(&run.heal(2), "3 of 3 links carry all again");

        let throttled = impair(Impairment {
            bandwidth_kib_s: Some(128),
            ..Impairment::default()
        });
        for (id, via) in [(3, "nfqueue"), (4, "tbf")] {
            let proof = run.inject_via(id, &throttled, Some(via));
            seen(
                &proof,
                &format!("by {via}, on 3 of 3 links: 128 KiB/s asked"),
            );
            seen(&run.heal(id), "3 of 3 links carry all again");
        }
        not_seen(
            &run.inject_via(5, &slow, Some("tbf")),
            "tbf limits the bandwidth and nothing else",
        );
        not_seen(&run.inject_via(6, &slow, Some("magic")), "not by magic");
        let nothing = impair(Impairment::default());
        not_seen(&run.inject(7, &nothing), "nothing was asked for");
        assert_eq!(run.call(2), Outcome::Ok);
    });
}

#[test]
fn links_that_are_all_lost_are_seen_to_be() {
    with_nodes("netns-all-lost", 2, |mut run| {
        let all = Action::Impair {
            links: vec![between(1, 2)],
            impairment: Impairment {
                loss_percent: 100,
                ..Impairment::default()
            },
        };
        seen(
            &run.inject_via(1, &all, Some("nfqueue")),
            "100 % lost asked, 100.0 % measured",
        );
        seen(&run.heal(1), "1 of 1 links carry all again");
    });
}
