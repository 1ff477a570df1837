//! `serial = "stdio"` on a real terminal: raw for the time of the run, as the user had it ever after.

use crate::stage::{Stage, eventually};
use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use nix::unistd::{Pid, setsid, tcsetpgrp, ttyname, write};
use std::fs::OpenOptions;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// Started again as the leader of a session of its own: takes the terminal, runs `vmapp run` in the foreground as a shell
/// would, tells its pid and its end, and keeps the terminal until its standard input ends.
#[test]
#[ignore = "the shell of the other tests"]
fn shell() {
    let Ok(tty) = std::env::var("WORLDSWITCH_TTY") else {
        return;
    };
    setsid().unwrap();
    // The first terminal a session leader opens is its controlling terminal, and it the foreground job.
    let tty = OpenOptions::new().read(true).write(true).open(tty).unwrap();
    let errors = std::fs::File::create("stderr").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmapp"));
    command.args(["run", "vm.toml"]).stderr(errors);
    command
        .stdin(tty.try_clone().unwrap())
        .stdout(tty.try_clone().unwrap());
    let background = std::env::var_os("WORLDSWITCH_BACKGROUND").is_some();
    if background {
        command.process_group(0);
    }
    let mut vmapp = command.spawn().unwrap();
    std::fs::write("pid", vmapp.id().to_string()).unwrap();
    if background {
        // What a shell's `fg` does, when told.
        eventually("the word to take the job to the foreground", || {
            std::path::Path::new("fg").exists().then_some(())
        });
        let job = Pid::from_raw(vmapp.id().try_into().unwrap());
        tcsetpgrp(&tty, job).unwrap();
        killpg(job, Signal::SIGCONT).unwrap();
    }
    let status = vmapp.wait().unwrap();
    std::fs::write("status.new", format!("{status}")).unwrap();
    std::fs::rename("status.new", "status").unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    std::process::exit(0);
}

struct Screen {
    stage: Stage,
    pty: OpenptyResult,
    before: Termios,
    shell: Child,
}

impl Screen {
    fn new(play: &str) -> Self {
        Self::start(play, false)
    }

    fn start(play: &str, background: bool) -> Self {
        let stage = Stage::new(play, "");
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        stage.dress(&mut command);
        if background {
            command.env("WORLDSWITCH_BACKGROUND", "1");
        }
        let shell = command
            .args(["--exact", "terminal::shell", "--ignored", "--nocapture"])
            .env("WORLDSWITCH_TTY", ttyname(&pty.slave).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            stage,
            pty,
            before,
            shell,
        }
    }

    /// Raw mode as the guest's user needs it.
    fn wait_raw(&self) {
        eventually("raw mode", || {
            let flags = tcgetattr(&self.pty.slave).unwrap().local_flags;
            (!flags.intersects(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG)).then_some(())
        });
        self.stage.wait_log("engine fake");
    }

    fn wait_restored(&self) {
        eventually("the terminal to be put back", || {
            (tcgetattr(&self.pty.slave).unwrap() == self.before).then_some(())
        });
    }

    fn type_in(&self, keys: &[u8]) {
        write(&self.pty.master, keys).unwrap();
    }

    /// Reads the screen until `text` has come.
    fn wait_text(&self, text: &str) {
        let mut all = Vec::new();
        eventually(text, || {
            let mut some = [0; 512];
            let count = nix::unistd::read(&self.pty.master, &mut some).unwrap();
            all.extend_from_slice(&some[..count]);
            String::from_utf8_lossy(&all).contains(text).then_some(())
        });
    }

    fn supervisor(&self) -> Pid {
        Pid::from_raw(self.stage.wait_file("pid").parse().unwrap())
    }

    /// How `vmapp run` ended, as the standard library says it; then nothing but the shell is left.
    fn end(&self) -> String {
        let status = self.stage.wait_file("status");
        self.wait_restored();
        eventually("the workers' end", || {
            let left = self.stage.processes("io-worker").len() + self.stage.processes("fake_vmm").len();
            (left == 0).then_some(())
        });
        status
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        self.shell.kill().ok();
        self.shell.wait().ok();
    }
}

#[test]
fn raw_during_the_run_and_restored_after_a_normal_end() {
    let screen = Screen::new("started;echo;ended \"powered-off\"");
    screen.wait_raw();
    screen.stage.wait_log("demo: C-a x ends the VM");
    screen.type_in(b"\x03\x1a quit");
    screen.wait_text("\x03\x1a quit");
    assert_eq!(screen.end(), "exit status: 0", "{}", screen.stage.log());
}

#[test]
fn escape_x_ends_escape_p_presses_escape_h_helps() {
    let screen = Screen::new("started;obey");
    screen.wait_raw();
    screen.type_in(b"\x01h");
    screen.wait_text("C-a p  press the power button");
    screen.type_in(b"\x01p");
    assert_eq!(screen.end(), "exit status: 0", "{}", screen.stage.log());

    let screen = Screen::new("started;echo");
    screen.wait_raw();
    screen.type_in(b"\x01x");
    assert_eq!(screen.end(), "exit status: 1");
    assert!(
        screen.stage.log().contains("escape key"),
        "{}",
        screen.stage.log()
    );
}

#[test]
fn restored_whoever_is_killed() {
    type Victim = fn(&Screen) -> Pid;
    let table: [(&str, Victim, &str); 2] = [
        ("vmm", |screen| screen.stage.vmm(), "exit status: 3"),
        ("supervisor", Screen::supervisor, "signal: 9 (SIGKILL)"),
    ];
    for (who, victim, status) in table {
        let screen = Screen::new("started;obey");
        screen.wait_raw();
        kill(victim(&screen), Signal::SIGKILL).unwrap();
        assert_eq!(screen.end(), status, "{who}: {}", screen.stage.log());
    }
}

#[test]
fn the_next_worker_takes_the_terminal_again() {
    let screen = Screen::new("started;echo;ended \"powered-off\"");
    screen.wait_raw();
    kill(screen.stage.worker(), Signal::SIGKILL).unwrap();
    screen.stage.wait_log("starting another");
    eventually("another worker", || {
        (screen.stage.status()["io_state"] == "serving").then_some(())
    });
    screen.wait_raw();
    screen.type_in(b"quit");
    assert_eq!(screen.end(), "exit status: 0", "{}", screen.stage.log());
}

#[test]
fn a_worker_that_learns_late_of_the_supervisors_death_still_puts_the_terminal_back() {
    let screen = Screen::new("started;obey");
    screen.wait_raw();
    let worker = screen.stage.worker();
    kill(worker, Signal::SIGSTOP).unwrap();
    kill(screen.supervisor(), Signal::SIGKILL).unwrap();
    assert_eq!(screen.stage.wait_file("status"), "signal: 9 (SIGKILL)");
    kill(worker, Signal::SIGCONT).unwrap();
    screen.end();
}

#[test]
fn suspending_gives_the_terminal_back_and_resuming_takes_it_again() {
    let screen = Screen::new("started;echo;ended \"powered-off\"");
    screen.wait_raw();
    let supervisor = screen.supervisor();
    kill(supervisor, Signal::SIGTSTP).unwrap();
    screen.wait_restored();
    for pid in [supervisor, screen.stage.vmm(), screen.stage.worker()] {
        eventually("all to stop", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.contains(") T ").then_some(())
        });
    }
    kill(supervisor, Signal::SIGCONT).unwrap();
    screen.wait_raw();
    screen.type_in(b"quit");
    assert_eq!(screen.end(), "exit status: 0", "{}", screen.stage.log());
}

#[test]
fn a_background_job_leaves_the_terminal_alone_until_it_is_taken_to_the_foreground() {
    let screen = Screen::start("started;print up;echo;ended \"powered-off\"", true);
    screen.wait_text("up");
    assert_eq!(tcgetattr(&screen.pty.slave).unwrap(), screen.before);
    std::fs::write(screen.stage.path("fg"), "").unwrap();
    screen.wait_raw();
    screen.type_in(b"quit");
    assert_eq!(screen.end(), "exit status: 0", "{}", screen.stage.log());
}

#[test]
fn the_users_open_file_description_keeps_its_flags() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let screen = Screen::new("started;print hi;obey");
    screen.wait_raw();
    screen.wait_text("hi");
    let pid = screen.supervisor();
    // The supervisor's standard output is the description the shell gave it.
    let info = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/1")).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
    assert!(
        !OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK),
        "{flags:o}"
    );
    let ours = fcntl(screen.pty.slave.as_fd(), FcntlArg::F_GETFL).unwrap();
    assert!(!OFlag::from_bits_retain(ours).contains(OFlag::O_NONBLOCK));
}
