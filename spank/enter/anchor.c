#include "enter.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int fail(const char *what)
{
    complain(what, strerror(errno));
    return EXIT_REFUSED;
}

/* First process of the pod's PID namespace: when it ends, the kernel ends all that is below. */
static int hold(const char *hostname)
{
    char byte;
    ssize_t got;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    /* What the host mounts later appears, and what it unmounts goes; nothing goes back. */
    if (mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        return fail("cannot set the propagation of mounts");
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        return fail("cannot mount /proc");
    if (hostname && sethostname(hostname, strlen(hostname)) < 0)
        return fail("cannot set the host name");
    /* The kernel reaps what is orphaned. */
    (void)signal(SIGCHLD, SIG_IGN);
    if (write(STDOUT_FILENO, "\n", 1) != 1)
        return fail("nobody waits for the anchor");
    do
        got = read(STDIN_FILENO, &byte, 1);
    while (got > 0 || (got < 0 && errno == EINTR));
    return 0;
}

int anchor(const struct request *request)
{
    struct slurmlet_ops ops;
    struct slurmlet_message why = {""};
    struct slurmlet_sandbox sandbox;
    pid_t child;
    int status;

    slurmlet_ops_default(&ops);
    slurmlet_sandbox_init(&sandbox);
    if (slurmlet_sandbox_open(&ops, SLURMLET_JOBS, request->job, &sandbox, &why) < 0 ||
        slurmlet_join_sandbox(&ops, &sandbox, 0, &why) < 0) {
        complain("", why.text);
        return EXIT_REFUSED;
    }
    slurmlet_sandbox_close(&ops, &sandbox);
    if (unshare(CLONE_NEWNS | CLONE_NEWPID) < 0)
        return fail("cannot make the pod's namespaces");
    child = fork();
    if (child < 0)
        return fail("cannot start the anchor");
    if (child == 0)
        return hold(request->hostname);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
