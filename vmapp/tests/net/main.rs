//! Network cards: taps of the host in a network namespace of the test's own, the capture file, and the service against
//! a vmm played by the test.

mod joined;
mod pcapng;
mod planned;
mod service;
mod tap;

/// Runs `test` in a network namespace of its own, which goes away with it. `None`: that takes root.
fn in_namespace<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).ok()?;
        std::path::Path::new("/dev/net/tun").exists().then(test)
    });
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// [`in_namespace`] for a test that has nothing to say, but where it was left out.
fn in_namespace_or_skip(name: &str, test: impl FnOnce() + Send + 'static) {
    if in_namespace(test).is_none() {
        println!("skipped: {name}: a network namespace takes root");
    }
}
