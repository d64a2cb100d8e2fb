#ifndef SLURMLET_ENTER_H
#define SLURMLET_ENTER_H

#include "../csrc/core.h"

#define SLURMLET_JOBS "/run/slurmlet/jobs"
/* Stands before the command of a step from srun on: without the plugin it cannot be executed. */
#define SLURMLET_GUARD "/slurmlet-is-missing-on-this-node"

enum { EXIT_REFUSED = 125, EXIT_CANNOT_EXECUTE = 126, EXIT_NOT_FOUND = 127 };

struct request {
    uint32_t job;
    unsigned int left_out;
    struct slurmlet_target target;
    const char *target_text;
    const char *directory;
    const char *hostname;
    /* --init: where to write why the command cannot run; -1 is standard error. */
    int failure;
    char **command;
};

/* Joins the container and becomes the command; returns an exit status if it cannot, or if it had
 * to stay as the command's proxy. */
int step(const struct request *request);
/* Joins the sandbox and holds a new mount and PID namespace until standard input ends. */
int anchor(const struct request *request);
/* Runs the command, passes signals to it and reaps what is orphaned; returns its exit status, as
 * which 128 and a signal's number stands for that. */
int init(const struct request *request);

/* Forks the first process in the joined PID namespace. In the child it returns 0; the parent passes
 * signals and terminal on, and returns -1 with the exit status to end with. `terminal`: standard
 * input is a terminal that the container does not know. */
int proxy(bool terminal, int *ret_status);

/* Keeps `mask` of the capabilities, for good. */
int limit_capabilities(uint64_t mask);

/* Gives this process, for good, these ids in its own eyes and no power over the pod's namespaces.
 */
int keep_identity(uid_t uid, gid_t gid);

void complain(const char *what, const char *text);

#endif
