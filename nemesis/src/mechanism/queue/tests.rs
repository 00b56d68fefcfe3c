//! The queue on a real cable.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::*;
use crate::mechanism::testing::{Cable, HERE, THERE, fly};

const QUIET: Duration = Duration::from_millis(300);

fn queue(cable: &Cable) -> Option<Queue> {
    if let Err(why) = available() {
        eprintln!("not tested: {why}");
        return None;
    }
    Some(Queue::start(Arc::clone(&cable.here), &cable.there).unwrap())
}

fn link(way: Way) -> [(Way, String); 1] {
    [(way, "n2>n1".to_owned())]
}

fn slow(latency_ms: u64) -> Impairment {
    Impairment {
        latency_ms,
        ..Impairment::default()
    }
}

#[test]
fn packets_are_held_back_one_way_and_let_go() {
    let Some(cable) = Cable::new() else { return };
    let Some(queue) = queue(&cable) else { return };
    let (there, here) = cable.sockets();
    let from = Way::From(THERE);
    queue.impair(3, &link(from), |_| slow(60)).unwrap();
    queue.impair(3, &link(from), |_| slow(60)).unwrap();
    assert_eq!(rules(&queue.namespace, 3).unwrap().len(), 1);
    assert_eq!(queue.stands(3, &[from]).unwrap(), Ok(()));
    let came = fly(&there, &here, 50, QUIET);
    assert_eq!(came.len(), 50);
    for (number, took) in came {
        assert!(took >= Duration::from_millis(60), "{number}: {took:?}");
    }
    assert_eq!(queue.counts(from).packets, 50);
    // Nothing is asked of the way back.
    assert_eq!(fly(&here, &there, 5, QUIET).len(), 5);
    assert_eq!(queue.counts(Way::To(THERE)).packets, 0);

    // What waits when the fault ends comes at once, in order, and another fault goes on.
    queue.impair(4, &link(from), |_| slow(3_600_000)).unwrap();
    queue.release(3).unwrap();
    for number in 0..5_u8 {
        there.send(&[number]).unwrap();
    }
    here.set_read_timeout(Some(QUIET)).unwrap();
    assert!(here.recv(&mut [0; 64]).is_err());
    here.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    queue.release(4).unwrap();
    queue.release(4).unwrap();
    for number in 0..5_u8 {
        let mut bytes = [99; 64];
        assert_eq!(here.recv(&mut bytes).unwrap(), 1);
        assert_eq!(bytes[0], number);
    }
    assert!(rules(&queue.namespace, 4).unwrap().is_empty());
    let gone = queue.stands(4, &[from]).unwrap();
    assert!(gone.unwrap_err().contains("1 of 1 rules are gone"));
}

#[test]
fn packets_are_lost_doubled_and_overtaken_as_counted() {
    let Some(cable) = Cable::new() else { return };
    let Some(queue) = queue(&cable) else { return };
    let (there, here) = cable.sockets();
    for (way, from, to) in [
        (Way::From(THERE), &there, &here),
        (Way::To(THERE), &here, &there),
    ] {
        let asked = Impairment {
            loss_percent: 20,
            duplicate_percent: 20,
            reorder_percent: 20,
            ..Impairment::default()
        };
        queue.impair(1, &link(way), |_| asked).unwrap();
        let came = fly(from, to, 400, QUIET);
        let distinct: BTreeSet<u32> = came.iter().map(|(number, _)| *number).collect();
        let counts = queue.counts(way);
        // Copies are not queued again.
        assert_eq!(counts.packets, 400);
        assert_eq!(400 - distinct.len() as u64, counts.lost);
        assert_eq!((came.len() - distinct.len()) as u64, counts.twice);
        assert!(counts.lost > 20 && counts.twice > 20, "{counts:?}");
        let overtaken = came.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
        assert!(overtaken > 20, "{overtaken} {counts:?}");
        queue.release(1).unwrap();
        let clean = fly(from, to, 100, QUIET);
        let numbers: Vec<u32> = clean.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>());
    }
}

#[test]
fn a_throttled_lane_takes_its_time() {
    let Some(cable) = Cable::new() else { return };
    let Some(queue) = queue(&cable) else { return };
    let (there, here) = cable.sockets();
    let asked = Impairment {
        bandwidth_kib_s: Some(64),
        ..Impairment::default()
    };
    queue.impair(1, &link(Way::From(THERE)), |_| asked).unwrap();
    let begun = Instant::now();
    for _ in 0..16 {
        there.send(&[0; 1024]).unwrap();
    }
    here.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    for _ in 0..16 {
        here.recv(&mut [0; 2048]).unwrap();
    }
    // 16 KiB at 64 KiB/s.
    assert!(
        begun.elapsed() >= Duration::from_millis(250),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_queue_that_nobody_listens_to_lets_packets_pass() {
    let Some(cable) = Cable::new() else { return };
    let Some(queue) = queue(&cable) else { return };
    let (there, here) = cable.sockets();
    let asked = Impairment {
        loss_percent: 100,
        ..Impairment::default()
    };
    queue.impair(1, &link(Way::From(THERE)), |_| asked).unwrap();
    assert!(fly(&there, &here, 5, QUIET).is_empty());
    let rules = rules(&queue.namespace, 1).unwrap();
    drop(queue);
    assert_eq!(rules.len(), 1);
    assert_eq!(fly(&there, &here, 5, QUIET).len(), 5);
    // Of HERE as a source nothing was said.
    assert!(!rules[0].contains(&HERE.to_string()));
}

#[test]
fn rules_that_somebody_removes_are_missed() {
    let Some(cable) = Cable::new() else { return };
    let Some(queue) = queue(&cable) else { return };
    let from = Way::From(THERE);
    queue.impair(1, &link(from), |_| slow(60)).unwrap();
    let flushed = cable
        .here
        .run(|| tool::run("iptables", &["-t", "mangle", "-F"]));
    flushed.unwrap().unwrap();
    let gone = queue.stands(1, &[from]).unwrap();
    assert!(gone.unwrap_err().contains("1 of 1 rules are gone"));
    queue.release(1).unwrap();
}
