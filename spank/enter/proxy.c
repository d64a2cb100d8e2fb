/*
 * setns(2) into a PID namespace takes effect for children only, so a step is two processes: the one
 * that Slurm knows, and the command. Slurm signals only the first (proctrack/cgroup picks the
 * children of slurmstepd), and its exit status is the task's.
 */
#include "../csrc/cleanup.h"
#include "enter.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { CHUNK = 16384 };

struct relay {
    int master;
    int slave;
    struct termios outer;
};

/* A pseudo-terminal of the container's own, so that ttyname(3) and job control work: Slurm's is not
 * in its /dev/pts. Without /dev/ptmx the step keeps Slurm's. */
static bool open_relay(struct relay *relay)
{
    struct winsize size;
    int unlock = 0;

    if (tcgetattr(STDIN_FILENO, &relay->outer) < 0)
        return false;
    relay->master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (relay->master < 0)
        return false;
    if (ioctl(relay->master, TIOCSPTLCK, &unlock) < 0)
        goto fail;
    relay->slave = ioctl(relay->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (relay->slave < 0)
        goto fail;
    (void)tcsetattr(relay->slave, TCSANOW, &relay->outer);
    if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
        (void)ioctl(relay->slave, TIOCSWINSZ, &size);
    return true;
fail:
    (void)close(relay->master);
    relay->master = -1;
    return false;
}

static void take_terminal(const struct relay *relay)
{
    (void)setsid();
    if (relay->slave < 0)
        return;
    (void)ioctl(relay->slave, TIOCSCTTY, 0);
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (isatty(fd))
            (void)dup2(relay->slave, fd);
    }
}

static bool write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t put = write(fd, data, size);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && errno == EAGAIN) {
            struct pollfd entry = {.fd = fd, .events = POLLOUT};

            (void)poll(&entry, 1, -1);
            continue;
        }
        if (put < 0)
            return false;
        data += put;
        size -= (size_t)put;
    }
    return true;
}

/* False at the end of either side. */
static bool copy(int from, int to)
{
    char data[CHUNK];
    ssize_t got = read(from, data, sizeof(data));

    if (got < 0)
        return errno == EINTR || errno == EAGAIN;
    return got > 0 && write_all(to, data, (size_t)got);
}

static void pass(const struct signalfd_siginfo *info, pid_t child, const struct relay *relay)
{
    struct winsize size;

    if (info->ssi_signo == SIGWINCH && relay->master >= 0) {
        if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
            (void)ioctl(relay->master, TIOCSWINSZ, &size);
        return;
    }
    /* The others are ours: of a terminal that hung up while we wrote to it. */
    if (info->ssi_signo != SIGPIPE)
        (void)kill(child, (int)info->ssi_signo);
}

/* What is still in the terminal when its last user has gone. */
static void drain(const struct relay *relay)
{
    struct pollfd entry = {.fd = relay->master, .events = POLLIN};

    while (poll(&entry, 1, 0) > 0 && (entry.revents & POLLIN) && copy(relay->master, STDOUT_FILENO))
        ;
}

static int watch(pid_t child, int signals, struct relay *relay)
{
    enum { SIGNALS, OUTER, INNER };
    struct pollfd fds[] = {
        [SIGNALS] = {.fd = signals, .events = POLLIN},
        [OUTER] = {.fd = relay->master >= 0 ? STDIN_FILENO : -1, .events = POLLIN},
        [INNER] = {.fd = relay->master, .events = POLLIN},
    };
    int status;

    for (;;) {
        struct signalfd_siginfo info;

        if (poll(fds, sizeof(fds) / sizeof(fds[0]), -1) < 0 && errno != EINTR)
            return -1;
        if (fds[INNER].revents && !copy(relay->master, STDOUT_FILENO))
            fds[INNER].fd = -1;
        if (fds[OUTER].revents && !copy(STDIN_FILENO, relay->master)) {
            /* Whoever held the other end has hung up. */
            fds[OUTER].fd = -1;
            (void)kill(child, SIGHUP);
        }
        if (!fds[SIGNALS].revents || read(signals, &info, sizeof(info)) != sizeof(info))
            continue;
        if (info.ssi_signo != SIGCHLD) {
            pass(&info, child, relay);
            continue;
        }
        if (waitpid(child, &status, WNOHANG) == child)
            return status;
    }
}

/* End as the command ended: by the same signal, without a second core file. */
static int end_as(int status)
{
    struct rlimit none = {0, 0};
    sigset_t one;

    if (status == -1)
        return EXIT_REFUSED;
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)signal(WTERMSIG(status), SIG_DFL);
    (void)sigemptyset(&one);
    (void)sigaddset(&one, WTERMSIG(status));
    (void)raise(WTERMSIG(status));
    (void)sigprocmask(SIG_UNBLOCK, &one, NULL);
    return 128 + WTERMSIG(status);
}

static int parent(pid_t child, int signals, struct relay *relay)
{
    int status;

    if (relay->master >= 0) {
        struct termios raw = relay->outer;

        (void)close(relay->slave);
        cfmakeraw(&raw);
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    status = watch(child, signals, relay);
    if (relay->master >= 0) {
        drain(relay);
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &relay->outer);
    }
    return end_as(status);
}

int proxy(bool terminal, int *ret_status)
{
    struct relay relay = {.master = -1, .slave = -1};
    sigset_t all, before;
    cleanup_fd signals = -1;
    pid_t child;

    if (terminal)
        (void)open_relay(&relay);
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    signals = signalfd(-1, &all, SFD_CLOEXEC);
    child = signals < 0 ? -1 : fork();
    if (child < 0) {
        complain("cannot start a process in the pod", strerror(errno));
        *ret_status = EXIT_REFUSED;
        return -1;
    }
    if (child > 0) {
        *ret_status = parent(child, signals, &relay);
        return -1;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (terminal)
        take_terminal(&relay);
    else
        /* Who signals the task's process group shall not be heard twice. */
        (void)setpgid(0, 0);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    return 0;
}
