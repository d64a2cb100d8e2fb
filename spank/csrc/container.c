#include "cleanup.h"
#include "core.h"
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALL = 16384 };

void slurmlet_container_init(struct slurmlet_container *container)
{
    memset(container, 0, sizeof(*container));
    container->directory = container->pidfd = -1;
}

void slurmlet_container_close(const struct slurmlet_ops *ops, struct slurmlet_container *container)
{
    if (container->directory >= 0)
        (void)ops->close(ops->context, container->directory);
    if (container->pidfd >= 0)
        (void)ops->close(ops->context, container->pidfd);
    container->directory = container->pidfd = -1;
}

/* A file of procfs as text. */
static ssize_t read_small(const struct slurmlet_ops *ops, int directory, const char *name,
                          char buffer[SMALL])
{
    ssize_t got, size = 0;
    int fd = ops->open(ops->context, directory, name, O_RDONLY);

    if (fd < 0)
        return fd;
    do {
        got = ops->read(ops->context, fd, buffer + size, (size_t)(SMALL - 1 - size));
        if (got > 0)
            size += got;
    } while (got > 0 && size < SMALL - 1);
    (void)ops->close(ops->context, fd);
    if (got < 0)
        return got;
    buffer[size] = '\0';
    return size;
}

/* Field 22 of proc(5)'s stat, counted behind the name, which may contain anything. */
static int start_time(const char *stat, uint64_t *ret_start)
{
    const char *at = strrchr(stat, ')');
    char *end;

    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return -EINVAL;
    errno = 0;
    *ret_start = strtoull(at + 1, &end, 10);
    return errno || end == at + 1 || *end != ' ' ? -EINVAL : 0;
}

/* A line `NAME:\tNUMBER` of proc(5)'s status, whose first line is the only one with foreign text.
 */
static int status_field(const char *status, const char *name, int base, uint64_t *ret_number)
{
    const char *at = strstr(status, name);
    char *end;

    if (!at)
        return -EINVAL;
    at += strlen(name);
    errno = 0;
    *ret_number = strtoull(at, &end, base);
    return errno || end == at || *end != '\n' ? -EINVAL : 0;
}

/* Slurm's group of the job; only root can move a process out of it. Without such a group
 * (proctrack/linuxproc) the other checks have to do. */
static bool in_other_job(const char *cgroup, uint32_t job)
{
    char own[32];
    bool other = false;

    (void)snprintf(own, sizeof(own), "/job_%u/", job);
    for (const char *at = strstr(cgroup, "/job_"); at; at = strstr(at + 1, "/job_")) {
        if (strncmp(at, own, strlen(own)) == 0)
            return false;
        other = true;
    }
    return other;
}

/* How many seccomp filters a process has; before Linux 5.9 only whether it has any. */
static int count_filters(const char *status, uint64_t *ret_count)
{
    uint64_t mode;
    int rc = status_field(status, "\nSeccomp:\t", 10, &mode);

    if (rc == 0 && status_field(status, "\nSeccomp_filters:\t", 10, ret_count) < 0)
        *ret_count = mode != 0;
    return rc;
}

static int read_privileges(const struct slurmlet_ops *ops, struct slurmlet_container *container,
                           char *text, struct slurmlet_message *why)
{
    uint64_t no_new_privileges, theirs, ours;
    ssize_t rc = read_small(ops, container->directory, "status", text);

    if (rc < 0)
        return slurmlet_fail(why, -ESRCH, "the container has ended");
    if (status_field(text, "\nCapBnd:\t", 16, &container->capabilities) < 0 ||
        status_field(text, "\nNoNewPrivs:\t", 10, &no_new_privileges) < 0 ||
        count_filters(text, &theirs) < 0)
        return slurmlet_fail(why, -EINVAL, "/proc tells nothing of the container's privileges");
    container->no_new_privileges = no_new_privileges != 0;
    rc = read_small(ops, AT_FDCWD, "/proc/self/status", text);
    if (rc < 0 || count_filters(text, &ours) < 0)
        return slurmlet_fail(why, rc < 0 ? (int)rc : -EINVAL,
                             "/proc/self/status tells nothing of seccomp");
    /* slurmd's own, say of its unit, both have inherited. */
    container->filtered = theirs > ours;
    return 0;
}

static int open_process(const struct slurmlet_ops *ops, uint32_t job,
                        struct slurmlet_container *container, struct slurmlet_message *why)
{
    cleanup_free char *text = malloc(SMALL);
    char path[32];
    uint64_t start = 0;
    ssize_t rc;

    if (!text)
        return slurmlet_fail(why, -ENOMEM, "out of memory");
    (void)snprintf(path, sizeof(path), "/proc/%d", container->hint.pid);
    /* The directory and the pidfd stay this process's, whoever gets its number later. */
    container->directory = ops->open(ops->context, AT_FDCWD, path, O_PATH | O_DIRECTORY);
    if (container->directory < 0)
        goto gone;
    container->pidfd = ops->process(ops->context, container->hint.pid);
    if (container->pidfd < 0)
        goto gone;
    rc = read_small(ops, container->directory, "stat", text);
    if (rc < 0 || start_time(text, &start) < 0 || start != container->hint.start)
        goto gone;
    rc = read_small(ops, container->directory, "cgroup", text);
    if (rc < 0)
        goto gone;
    if (in_other_job(text, job))
        return slurmlet_fail(why, -EPERM,
                             "process %d, which the pod names as its container, "
                             "does not belong to job %u",
                             container->hint.pid, job);
    return read_privileges(ops, container, text, why);
gone:
    return slurmlet_fail(why, -ESRCH, "the container has ended");
}

int slurmlet_container_open(const struct slurmlet_ops *ops, const struct slurmlet_sandbox *sandbox,
                            const struct slurmlet_target *target,
                            struct slurmlet_container *ret_container, struct slurmlet_message *why)
{
    struct slurmlet_container container;
    cleanup_free char *text = NULL;
    ssize_t size =
        slurmlet_file_read(ops, sandbox->pod, "containers.json", SLURMLET_HINT_MAX, &text, why);
    int rc;

    if (size == -ENOENT)
        return slurmlet_fail(why, -ENOENT, "no container of the pod runs yet");
    if (size < 0)
        return (int)size;
    slurmlet_container_init(&container);
    rc = slurmlet_hint_parse(text, (size_t)size, target, &container.hint, why);
    if (rc == 0)
        rc = open_process(ops, sandbox->record.job, &container, why);
    if (rc < 0) {
        slurmlet_container_close(ops, &container);
        return rc;
    }
    *ret_container = container;
    return 0;
}

ssize_t slurmlet_environment_read(const struct slurmlet_ops *ops,
                                  const struct slurmlet_sandbox *sandbox, const char *name,
                                  char **ret_text, struct slurmlet_message *why)
{
    return slurmlet_file_read(ops, sandbox->pod, name, SLURMLET_ENVIRONMENT_MAX, ret_text, why);
}
