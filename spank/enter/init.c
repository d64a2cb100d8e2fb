/*
 * First process of a container. An application is written for a parent that reaps, and most of them
 * do not reap what they did not start; and PID 1 is deaf to each signal that it has no handler for.
 */
#include "../csrc/cleanup.h"
#include "enter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* Not execvp(3): that runs what is no program as a shell's script, and no runtime of Kubernetes
 * does. Returns the errno of the first file that is there, or ENOENT. */
static int execute(char **command)
{
    const char *name = command[0], *path = getenv("PATH");
    int error = ENOENT;

    if (strchr(name, '/')) {
        (void)execv(name, command);
        return errno;
    }
    if (!name[0])
        return ENOENT;
    for (const char *next, *at = path ? path : "/bin:/usr/bin"; at; at = next) {
        cleanup_free char *file = NULL;
        size_t size = strcspn(at, ":");

        next = at[size] ? at + size + 1 : NULL;
        if (asprintf(&file, "%.*s/%s", (int)(size ? size : 1), size ? at : ".", name) < 0)
            return ENOMEM;
        (void)execv(file, command);
        if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
            return errno;
        if (errno == EACCES)
            error = EACCES;
    }
    return error;
}

static void tell(int fd, const char *name, int error)
{
    bool searched = !strchr(name, '/') && error == ENOENT;

    if (fd >= 0)
        (void)dprintf(fd, "exec: \"%s\": %s", name,
                      searched ? "executable file not found in $PATH" : strerror(error));
    else
        complain(name, strerror(error));
}

static int application(const struct request *request, const sigset_t *mask)
{
    int error;

    (void)setsid();
    /* The terminal that the engine gave is the application's, which init has let go of. */
    if (isatty(STDIN_FILENO))
        (void)ioctl(STDIN_FILENO, TIOCSCTTY, 0);
    (void)sigprocmask(SIG_SETMASK, mask, NULL);
    error = execute(request->command);
    tell(request->failure, request->command[0], error);
    return error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE;
}

/* As every runtime says it: 128 and the signal's number. */
static int code_of(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Until the application ends; with this process the kernel ends the rest. */
static int watch(pid_t application, const sigset_t *all)
{
    for (;;) {
        int status, number = sigwaitinfo(all, NULL);
        pid_t ended;

        if (number > 0 && number != SIGCHLD)
            (void)kill(application, number);
        /* One SIGCHLD may stand for many. */
        while ((ended = waitpid(-1, &status, WNOHANG)) > 0) {
            if (ended == application)
                return code_of(status);
        }
        if (ended < 0 && errno == ECHILD)
            return EXIT_REFUSED;
    }
}

int init(const struct request *request)
{
    sigset_t all, before;
    pid_t child;

    if (request->failure >= 0 && fcntl(request->failure, F_SETFD, FD_CLOEXEC) < 0) {
        complain("--failure", strerror(errno));
        return EXIT_REFUSED;
    }
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &before);
    if (isatty(STDIN_FILENO))
        (void)ioctl(STDIN_FILENO, TIOCNOTTY);
    child = fork();
    if (child < 0) {
        tell(request->failure, "fork", errno);
        return EXIT_REFUSED;
    }
    if (child == 0)
        return application(request, &before);
    /* Who reads or writes the other ends waits for the application and not for this process. */
    (void)close_range(0, UINT_MAX, 0);
    return watch(child, &all);
}
