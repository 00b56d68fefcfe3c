//! Each planted mistake shows, and without it the same run is clean.

use super::healing::{hinted, sloppy};
use super::{ask, config, done, nodes, places, read, register, strict, write};
use crate::core::config::Bug;
use crate::core::leaderless::{Leaderless, ReadRepair, Versions};
use crate::core::testing::World;
use crate::core::timing::MILLISECOND;
use crate::core::{Answer, Config, Datum, Op, Request, Scalar};

fn with(bug: Bug, planted: bool, config: Config) -> Config {
    Config {
        bugs: planted.then_some(bug).into_iter().collect(),
        ..config
    }
}

#[test]
fn a_dropped_hint_loses_an_acknowledged_write() {
    for planted in [true, false] {
        let config = with(Bug::HintDropped, planted, sloppy(Versions::Lww));
        let mut world = hinted(config, 1);
        // The hints are sent while the owners are still away.
        world.run_ms(3_000);
        world.heal();
        let (homes, _) = places();
        let lost = ask(&mut world, homes[0], read()).result == Ok(register(1));
        assert_eq!(lost, planted);
    }
}

#[test]
fn a_tombstone_collected_too_early_brings_the_value_back() {
    for planted in [true, false] {
        let config = config(Leaderless {
            anti_entropy_ms: 500,
            ..Leaderless::default()
        });
        let mut world = World::new(with(Bug::TombstoneResurrected, planted, config), 5, 2);
        let (homes, _) = places();
        done(&mut world, homes[0], write(1));
        world.run_ms(1_000);
        world.isolate(&[homes[2]]);
        done(&mut world, homes[0], Request::new(Op::Delete("k".into())));
        world.run_ms(10_000);
        world.heal();
        let back = ask(&mut world, homes[0], read()).result != Ok(Answer::Value(None));
        assert_eq!(back, planted);
    }
}

/// A repair that was on its way while a newer write arrived takes that back.
#[test]
fn a_read_repair_that_does_not_compare_overwrites_what_is_newer() {
    for planted in [true, false] {
        let mut stale = 0;
        for seed in 0..60 {
            let mut config = strict(Versions::Lww, ReadRepair::Background);
            (config.leaderless.r, config.leaderless.w) = (1, 3);
            let config = with(Bug::ReadRepairOverwrites, planted, config);
            let mut world = World::new(config, 5, seed);
            world.delay_max = 60 * MILLISECOND;
            for n in 1..20 {
                let node = nodes()[world.draw(5) as usize];
                let id = world.request(node, write(n));
                while world.reply(id).is_none() {
                    let node = nodes()[world.draw(5) as usize];
                    world.request(node, read());
                    world.run_ms(5);
                }
                if n % 3 == 0 {
                    let node = nodes()[world.draw(5) as usize];
                    let seen = ask(&mut world, node, read()).result;
                    let fresh = Ok(Answer::Value(Some(Datum::Register(Scalar::Int(n)))));
                    stale += usize::from(seen != fresh);
                }
            }
        }
        assert_eq!(stale > 0, planted, "{stale} stale reads");
    }
}
