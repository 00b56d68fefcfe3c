use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};

use rustix::process::Signal;

use super::*;
use crate::mechanism::lease::Undo;
use crate::mechanism::process::Stat;

/// Says to this very program that it is a keeper, and where its file is.
const AS_KEEPER: &str = "as-keeper";

/// A "test" that does nothing unless it is asked for by further arguments, which the test runner
/// takes for more filters.
#[test]
fn keeper() {
    let mut arguments = std::env::args().skip_while(|argument| argument != AS_KEEPER);
    let (Some(_), Some(file)) = (arguments.next(), arguments.next()) else {
        return;
    };
    leave_session().unwrap();
    let (input, output) = (io::stdin().lock(), io::stdout().lock());
    let code = match serve(input, output, EXPIRY, Some(Path::new(&file))).unwrap() {
        End::Closed => 0,
        End::Expired => i32::from(EXPIRED),
    };
    std::process::exit(code);
}

fn launch(dir: &Path) -> Launch {
    let file = dir.join("leases.json");
    let name = "mechanism::keeper::tests::keeper";
    let arguments = ["--exact", name, "--nocapture", AS_KEEPER];
    let mut arguments: Vec<_> = arguments.map(OsString::from).into();
    arguments.push(file.clone().into());
    Launch {
        program: std::env::current_exe().unwrap(),
        arguments,
        log: dir.join("keeper.log"),
        file,
    }
}

struct Sleeper(Child);

impl Sleeper {
    fn start() -> Self {
        Self(Command::new("sleep").arg("600").spawn().unwrap())
    }

    fn identity(&self) -> Identity {
        Identity::of(self.0.id()).unwrap()
    }

    fn kill(&self) -> Lease {
        Lease::new(
            format!("process-{}", self.0.id()),
            Undo::Kill(self.identity()),
        )
    }

    fn is_alive(&self) -> bool {
        Stat::of(self.0.id()).is_ok_and(|stat| !"ZX".contains(stat.state))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < until, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn started(dir: &Path) -> (Keeper, Receiver<Lost>) {
    let (tell, told) = channel();
    let keeper = Keeper::start(launch(dir), move |why| drop(tell.send(why.clone()))).unwrap();
    (keeper, told)
}

#[test]
fn what_is_registered_is_undone_when_the_owner_lets_go_and_what_was_released_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (kept, released) = (Sleeper::start(), Sleeper::start());
    let (keeper, told) = started(dir.path());
    let process = keeper.identity().unwrap();
    // The leader of a session of its own. (Our own session's may be outside of our pid namespace.)
    let raw = rustix::process::Pid::from_raw(process.pid as i32);
    assert_eq!(Some(rustix::process::getsid(raw).unwrap()), raw);
    keeper.register(kept.kill()).unwrap();
    keeper.register(released.kill()).unwrap();
    let file = dir.path().join("leases.json");
    let written = Leases::read(&file).unwrap().unwrap();
    assert_eq!(written.leases, [kept.kill(), released.kill()]);
    assert_eq!(written.keeper.as_ref(), Some(&process));
    keeper.release(&released.kill().id);
    let written = Leases::read(&file).unwrap().unwrap();
    assert_eq!(written.leases, [kept.kill()]);
    drop(keeper);
    assert!(!process.is_alive());
    assert!(!kept.is_alive());
    assert!(released.is_alive());
    assert!(!file.exists());
    assert!(told.try_recv().is_err());
}

#[test]
fn a_keeper_that_dies_is_replaced_and_the_next_one_has_all_leases() {
    let dir = tempfile::tempdir().unwrap();
    let sleeper = Sleeper::start();
    let (keeper, told) = started(dir.path());
    keeper.register(sleeper.kill()).unwrap();
    let first = keeper.identity().unwrap();
    first.signal(Signal::KILL).unwrap();
    eventually("another keeper", || {
        keeper.identity().is_some_and(|identity| identity != first)
    });
    // Its death is not its owner's.
    assert!(sleeper.is_alive());
    let other = Sleeper::start();
    keeper.register(other.kill()).unwrap();
    assert!(keeper.lost().is_none());
    drop(keeper);
    assert!(!sleeper.is_alive() && !other.is_alive());
    assert!(told.try_recv().is_err());
}

#[test]
fn a_keeper_that_hangs_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (keeper, _told) = started(dir.path());
    let first = keeper.identity().unwrap();
    first.signal(Signal::STOP).unwrap();
    let sleeper = Sleeper::start();
    // Waits for the next one.
    keeper.register(sleeper.kill()).unwrap();
    assert_ne!(keeper.identity().unwrap(), first);
    assert!(!first.is_alive());
}

#[test]
fn an_owner_that_cannot_have_a_keeper_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let nothing = Launch {
        program: "/no/such/program".into(),
        ..launch(dir.path())
    };
    let error = Keeper::start(nothing, |_| ()).unwrap_err().to_string();
    assert!(error.contains("no other can be had"), "{error}");
    // One that works once, and never again.
    let script = dir.path().join("once");
    let once = dir.path().join("started");
    let real = std::env::current_exe().unwrap();
    let text = format!(
        "#!/bin/sh\nmkdir {} || exit 7\nexec {} \"$@\"\n",
        once.display(),
        real.display()
    );
    fs::write(&script, text).unwrap();
    let mut arguments = launch(dir.path()).arguments;
    arguments.insert(0, script.into());
    let launch = Launch {
        program: "/bin/sh".into(),
        arguments,
        ..launch(dir.path())
    };
    let (tell, told) = channel();
    let keeper = Keeper::start(launch, move |why| drop(tell.send(why.clone()))).unwrap();
    let first = keeper.identity().unwrap();
    first.signal(Signal::KILL).unwrap();
    let why = told.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(why, Lost::Unreplaceable("exit status: 7".to_owned()));
    assert_eq!(keeper.lost(), Some(why.clone()));
    // What was registered, with or without success, is undone all the same in the end.
    let sleeper = Sleeper::start();
    assert_eq!(keeper.register(sleeper.kill()), Err(why));
    assert!(sleeper.is_alive());
    drop(keeper);
    assert!(!sleeper.is_alive());
    assert!(!dir.path().join("leases.json").exists());
}

/// A keeper in a thread, and the owner's end of its pipes.
fn served(expiry: Duration) -> (UnixStream, JoinHandle<io::Result<End>>) {
    let (owner, keeper) = UnixStream::pair().unwrap();
    let output = keeper.try_clone().unwrap();
    let thread = thread::spawn(move || serve(keeper, output, expiry, None));
    (owner, thread)
}

fn hear(owner: &mut impl BufRead) -> Reply {
    let mut line = String::new();
    owner.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap()
}

#[test]
fn silence_ends_a_lease_and_beats_keep_it() {
    let sleeper = Sleeper::start();
    let (mut owner, keeper) = served(Duration::from_millis(400));
    let mut replies = BufReader::new(owner.try_clone().unwrap());
    assert_eq!(hear(&mut replies), Reply::Ready);
    write_line(&mut owner, &Request::Register(sleeper.kill())).unwrap();
    assert_eq!(hear(&mut replies), Reply::Registered(sleeper.kill().id));
    let start = Instant::now();
    for _ in 0..8 {
        thread::sleep(Duration::from_millis(100));
        write_line(&mut owner, &Request::Beat).unwrap();
        assert_eq!(hear(&mut replies), Reply::Alive);
    }
    let beaten = start.elapsed();
    assert!(beaten > Duration::from_millis(400) && sleeper.is_alive());
    let end = keeper.join().unwrap().unwrap();
    assert_eq!(end, End::Expired);
    assert!(start.elapsed() >= beaten + Duration::from_millis(400));
    assert!(!sleeper.is_alive());
}

#[test]
fn requests_in_pieces_are_understood_and_others_are_not_fatal() {
    let sleeper = Sleeper::start();
    let (mut owner, keeper) = served(Duration::from_secs(60));
    let mut replies = BufReader::new(owner.try_clone().unwrap());
    assert_eq!(hear(&mut replies), Reply::Ready);
    owner.write_all(b"nonsense\n").unwrap();
    let mut line = serde_json::to_vec(&Request::Register(sleeper.kill())).unwrap();
    line.push(b'\n');
    let (first, second) = line.split_at(20);
    owner.write_all(first).unwrap();
    thread::sleep(Duration::from_millis(20));
    owner.write_all(second).unwrap();
    assert_eq!(hear(&mut replies), Reply::Registered(sleeper.kill().id));
    // The same id again replaces it.
    let other = Sleeper::start();
    let replaced = Lease::new(sleeper.kill().id, Undo::Kill(other.identity()));
    write_line(&mut owner, &Request::Register(replaced)).unwrap();
    assert_eq!(hear(&mut replies), Reply::Registered(sleeper.kill().id));
    drop((owner, replies));
    assert_eq!(keeper.join().unwrap().unwrap(), End::Closed);
    assert!(sleeper.is_alive());
    assert!(!other.is_alive());
}

#[test]
fn the_protocol_is_lines_as_they_are_described() {
    let text = |message: &Request| serde_json::to_string(message).unwrap();
    assert_eq!(text(&Request::Beat), "\"beat\"");
    assert_eq!(
        text(&Request::Release("x".to_owned())),
        r#"{"release":"x"}"#
    );
    let identity = Identity {
        pid: 7,
        start_time: 8,
        boot: "b".to_owned(),
    };
    let register = Request::Register(Lease::new("x", Undo::Kill(identity)));
    assert_eq!(
        text(&register),
        r#"{"register":{"id":"x","undo":{"kill":{"pid":7,"start_time":8,"boot":"b"}}}}"#
    );
}
