use super::*;

const CONFLICTS: [Conflicts; 4] = [
    Conflicts::Lww,
    Conflicts::Siblings,
    Conflicts::Crdt,
    Conflicts::Procedure,
];

fn tormented(conflicts: Conflicts, topology: Topology, seed: u64) -> World {
    let mut config = config(conflicts);
    config.multi_leader.topology = topology;
    config.multi_leader.clock = [Clock::Wall, Clock::Hybrid][(seed % 2) as usize];
    config.fsync = [Fsync::Always, Fsync::Always, Fsync::Interval, Fsync::Never][seed as usize % 4];
    config.log_keep = 16 + seed % 3 * 500;
    let mut world = World::new(config, 2 + seed as u16 % 4, seed);
    torment(&mut world, 100, true, |world, node, step| {
        let unique = step as i64 * 100 + i64::from(node.0);
        let op = match conflicts {
            Conflicts::Lww | Conflicts::Crdt => any_op(world, unique),
            _ => write(&format!("k{}", world.draw(3)), unique),
        };
        Request::new(op)
    });
    world
}

#[test]
fn nodes_converge_after_every_torment() {
    for conflicts in CONFLICTS {
        for topology in TOPOLOGIES {
            for seed in 0..120 {
                let mut world = tormented(conflicts, topology, seed);
                settle(&mut world);
                assert_converged(&mut world);
            }
        }
    }
}
