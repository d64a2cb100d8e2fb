#include "../csrc/cleanup.h"
#include "enter.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

struct place {
    struct slurmlet_sandbox sandbox;
    struct slurmlet_container container;
    char *environment;
    ssize_t environment_size;
    /* As Slurm started us. */
    uid_t uid;
    gid_t gid;
};

static int join(const struct slurmlet_ops *ops, const struct request *request, struct place *place,
                struct slurmlet_message *why)
{
    const struct slurmlet_hint *hint = &place->container.hint;
    int rc = slurmlet_sandbox_open(ops, SLURMLET_JOBS, request->job, &place->sandbox, why);

    if (rc < 0)
        return rc;
    rc = slurmlet_container_open(ops, &place->sandbox, &request->target, &place->container, why);
    if (rc < 0)
        return rc;
    place->environment_size = slurmlet_environment_read(ops, &place->sandbox, hint->environment,
                                                        &place->environment, why);
    if (place->environment_size < 0)
        return (int)place->environment_size;
    return slurmlet_join_container(ops, &place->sandbox, &place->container, request->left_out, why);
}

/* What is the container's and not only its namespaces'. */
static int take_over(const struct request *request, const struct place *place)
{
    const struct slurmlet_hint *hint = &place->container.hint;
    const char *directory = request->directory ? request->directory : hint->directory;
    char **merged;

    merged =
        slurmlet_environment_merge(environ, place->environment, (size_t)place->environment_size);
    if (!merged) {
        complain("", "out of memory");
        return -1;
    }
    environ = merged;
    if (limit_capabilities(place->container.capabilities) < 0 ||
        (place->container.no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)) {
        complain("cannot give up privileges", strerror(errno));
        return -1;
    }
    if (chdir(directory) < 0) {
        complain(directory, strerror(errno));
        return -1;
    }
    /* What PMIx's server shares through files of the node is then asked for over its socket. */
    if (getenv("PMIX_NAMESPACE") && setenv("PMIX_MCA_gds", "hash", 0) < 0)
        return -1;
    return setenv("PWD", directory, 1);
}

static int settle(const struct request *request, const struct place *place)
{
    if ((request->left_out & (1U << SLURMLET_USER)) && keep_identity(place->uid, place->gid) < 0) {
        complain("cannot keep your user id in the pod", strerror(errno));
        return -1;
    }
    if (!(request->left_out & (1U << SLURMLET_MNT)))
        return take_over(request, place);
    /* The host's files: the pod's paths mean nothing there. */
    if (request->directory && chdir(request->directory) < 0) {
        complain(request->directory, strerror(errno));
        return -1;
    }
    return 0;
}

static int execute(char **command)
{
    (void)execvp(command[0], command);
    complain(command[0], strerror(errno));
    return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_EXECUTE;
}

int step(const struct request *request)
{
    struct slurmlet_ops ops;
    struct slurmlet_message why = {""};
    struct place place = {.uid = getuid(), .gid = getgid()};
    char **command = request->command;
    int status = EXIT_REFUSED;
    bool mounts = !(request->left_out & (1U << SLURMLET_MNT));

    if ((request->left_out & (1U << SLURMLET_USER)) && (request->left_out & (1U << SLURMLET_PID)) &&
        mounts) {
        complain(request->target_text, "-user with -pid needs -mnt, too: the pod's /proc does not "
                                       "know a process that is not in its PID namespace");
        return EXIT_REFUSED;
    }
    slurmlet_ops_default(&ops);
    slurmlet_sandbox_init(&place.sandbox);
    slurmlet_container_init(&place.container);
    if (strcmp(command[0], SLURMLET_GUARD) == 0)
        command++;
    if (!command[0]) {
        complain("", "no command");
        return EXIT_REFUSED;
    }
    /* Files of the user's that stay open would be seen in the pod; ours are closed by exec. */
    if (join(&ops, request, &place, &why) < 0) {
        complain(request->target_text, why.text);
        return EXIT_REFUSED;
    }
    slurmlet_container_close(&ops, &place.container);
    slurmlet_sandbox_close(&ops, &place.sandbox);
    if (!(request->left_out & (1U << SLURMLET_PID)) &&
        proxy(mounts && isatty(STDIN_FILENO), &status) != 0)
        return status;
    if (settle(request, &place) < 0)
        return EXIT_REFUSED;
    return execute(command);
}
