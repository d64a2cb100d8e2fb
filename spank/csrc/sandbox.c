#include "cleanup.h"
#include "core.h"
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static const char boot_path[] = "/proc/sys/kernel/random/boot_id";

static void close_one(const struct slurmlet_ops *ops, int *fd)
{
    if (*fd >= 0)
        (void)ops->close(ops->context, *fd);
    *fd = -1;
}

void slurmlet_sandbox_init(struct slurmlet_sandbox *sandbox)
{
    memset(sandbox, 0, sizeof(*sandbox));
    sandbox->directory = sandbox->pod = -1;
    for (int kind = 0; kind < SLURMLET_KINDS; kind++)
        sandbox->pins[kind] = -1;
}

void slurmlet_sandbox_close(const struct slurmlet_ops *ops, struct slurmlet_sandbox *sandbox)
{
    close_one(ops, &sandbox->directory);
    close_one(ops, &sandbox->pod);
    for (int kind = 0; kind < SLURMLET_KINDS; kind++)
        close_one(ops, &sandbox->pins[kind]);
}

/* Up to `limit` bytes; more than that is -EFBIG. */
static ssize_t read_all(const struct slurmlet_ops *ops, int fd, char *buffer, size_t limit)
{
    size_t size = 0;

    for (;;) {
        char beyond;
        bool full = size == limit;
        ssize_t got =
            ops->read(ops->context, fd, full ? &beyond : buffer + size, full ? 1 : limit - size);

        if (got < 0)
            return got;
        if (got == 0)
            return (ssize_t)size;
        if (full)
            return -EFBIG;
        size += (size_t)got;
    }
}

/* Opens a file or directory that nobody but root can have put there. */
static int open_of_root(const struct slurmlet_ops *ops, int directory, const char *name, int flags,
                        uint32_t type)
{
    struct slurmlet_status status;
    int fd = ops->open(ops->context, directory, name, flags | O_NOFOLLOW | O_NONBLOCK);
    int rc;

    if (fd < 0)
        return fd;
    rc = ops->status(ops->context, fd, &status);
    if (rc == 0 &&
        ((status.mode & S_IFMT) != type || status.uid != 0 || (status.mode & (S_IWGRP | S_IWOTH))))
        rc = -EPERM;
    if (rc < 0)
        close_one(ops, &fd);
    return rc < 0 ? rc : fd;
}

static int read_record(const struct slurmlet_ops *ops, int directory,
                       struct slurmlet_record *record, struct slurmlet_message *why)
{
    cleanup_free char *text = malloc(SLURMLET_RECORD_MAX);
    ssize_t size;
    int fd;

    if (!text)
        return slurmlet_fail(why, -ENOMEM, "out of memory");
    fd = open_of_root(ops, directory, "record.json", O_RDONLY, S_IFREG);
    if (fd < 0)
        return slurmlet_fail(why, fd, "the sandbox has no record that can be used: %s",
                             strerror(-fd));
    size = read_all(ops, fd, text, SLURMLET_RECORD_MAX);
    close_one(ops, &fd);
    if (size < 0)
        return slurmlet_fail(why, (int)size, "the sandbox's record: %s", strerror((int)-size));
    return slurmlet_record_parse(text, (size_t)size, record, why);
}

static int check_boot(const struct slurmlet_ops *ops, const char *recorded,
                      struct slurmlet_message *why)
{
    char boot[SLURMLET_BOOT_MAX + 1];
    ssize_t size;
    int fd = ops->open(ops->context, AT_FDCWD, boot_path, O_RDONLY);

    if (fd < 0)
        return slurmlet_fail(why, fd, "%s: %s", boot_path, strerror(-fd));
    size = read_all(ops, fd, boot, sizeof(boot) - 1);
    close_one(ops, &fd);
    if (size < 0)
        return slurmlet_fail(why, (int)size, "%s: %s", boot_path, strerror((int)-size));
    boot[size] = '\0';
    boot[strcspn(boot, "\n")] = '\0';
    if (!boot[0] || strcmp(boot, recorded) != 0)
        return slurmlet_fail(why, -ESTALE, "the sandbox is of an earlier boot of this node");
    return 0;
}

static int open_pins(const struct slurmlet_ops *ops, struct slurmlet_sandbox *sandbox,
                     struct slurmlet_message *why)
{
    int rc = 0;
    int all = open_of_root(ops, sandbox->directory, "ns", O_PATH | O_DIRECTORY, S_IFDIR);

    if (all < 0)
        return slurmlet_fail(why, all, "the sandbox's namespaces: %s", strerror(-all));
    for (int kind = 0; kind < SLURMLET_KINDS && rc == 0; kind++) {
        const struct slurmlet_pin *pin = &sandbox->record.pins[kind];
        const char *name = slurmlet_kind_name(kind);
        struct slurmlet_status status;
        int fd;

        if (!pin->present)
            continue;
        fd = ops->open(ops->context, all, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0) {
            rc = slurmlet_fail(why, fd, "the sandbox's %s namespace: %s", name, strerror(-fd));
            break;
        }
        sandbox->pins[kind] = fd;
        rc = ops->status(ops->context, fd, &status);
        if (rc < 0)
            rc = slurmlet_fail(why, rc, "the sandbox's %s namespace: %s", name, strerror(-rc));
        else if (status.filesystem != NSFS_MAGIC || status.device != pin->device ||
                 status.inode != pin->inode)
            rc = slurmlet_fail(why, -ESTALE, "the sandbox's %s namespace is not the recorded one",
                               name);
    }
    close_one(ops, &all);
    return rc;
}

static int open_directory(const struct slurmlet_ops *ops, const char *jobs, uint32_t job,
                          struct slurmlet_message *why)
{
    char name[16];
    int fd, all = open_of_root(ops, AT_FDCWD, jobs, O_PATH | O_DIRECTORY, S_IFDIR);

    if (all == -ENOENT)
        return slurmlet_fail(why, -ENOENT, "job %u has no pod sandbox on this node", job);
    if (all < 0)
        return slurmlet_fail(why, all, "%s: %s", jobs, strerror(-all));
    (void)snprintf(name, sizeof(name), "%u", job);
    fd = open_of_root(ops, all, name, O_PATH | O_DIRECTORY, S_IFDIR);
    close_one(ops, &all);
    if (fd == -ENOENT)
        return slurmlet_fail(why, -ENOENT, "job %u has no pod sandbox on this node", job);
    if (fd < 0)
        return slurmlet_fail(why, fd, "%s/%s: %s", jobs, name, strerror(-fd));
    return fd;
}

static int open_verified(const struct slurmlet_ops *ops, const char *jobs, uint32_t job,
                         struct slurmlet_sandbox *sandbox, struct slurmlet_message *why)
{
    const struct slurmlet_record *record = &sandbox->record;
    int rc;

    sandbox->directory = open_directory(ops, jobs, job, why);
    if (sandbox->directory < 0)
        return sandbox->directory;
    rc = read_record(ops, sandbox->directory, &sandbox->record, why);
    if (rc < 0)
        return rc;
    if (record->job != job)
        return slurmlet_fail(why, -ESTALE, "the sandbox is of job %u, not %u", record->job, job);
    if ((int64_t)record->uid != ops->uid(ops->context))
        return slurmlet_fail(why, -EPERM, "job %u is another user's", job);
    if (record->error[0])
        return slurmlet_fail(why, -EIO, "the sandbox could not be made: %s", record->error);
    rc = check_boot(ops, record->boot, why);
    if (rc < 0)
        return rc;
    rc = open_pins(ops, sandbox, why);
    if (rc < 0)
        return rc;
    sandbox->pod =
        ops->open(ops->context, sandbox->directory, "pod", O_PATH | O_DIRECTORY | O_NOFOLLOW);
    if (sandbox->pod < 0)
        return slurmlet_fail(why, sandbox->pod, "the sandbox's pod directory: %s",
                             strerror(-sandbox->pod));
    return 0;
}

int slurmlet_sandbox_open(const struct slurmlet_ops *ops, const char *jobs, uint32_t job,
                          struct slurmlet_sandbox *ret_sandbox, struct slurmlet_message *why)
{
    struct slurmlet_sandbox sandbox;
    int rc;

    slurmlet_sandbox_init(&sandbox);
    rc = open_verified(ops, jobs, job, &sandbox, why);
    if (rc < 0) {
        slurmlet_sandbox_close(ops, &sandbox);
        return rc;
    }
    *ret_sandbox = sandbox;
    return 0;
}

ssize_t slurmlet_file_read(const struct slurmlet_ops *ops, int directory, const char *name,
                           size_t limit, char **ret_text, struct slurmlet_message *why)
{
    struct slurmlet_status status;
    char *text = NULL;
    ssize_t size;
    int rc, fd = ops->open(ops->context, directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0)
        return slurmlet_fail(why, fd, "the pod's %s: %s", name, strerror(-fd));
    rc = ops->status(ops->context, fd, &status);
    if (rc == 0 && (status.mode & S_IFMT) != S_IFREG)
        rc = -EINVAL;
    if (rc == 0 && (int64_t)status.uid != ops->uid(ops->context))
        rc = -EPERM;
    if (rc == 0 && (status.size < 0 || (uint64_t)status.size > limit))
        rc = -EFBIG;
    if (rc == 0) {
        text = malloc(limit + 1);
        size = text ? read_all(ops, fd, text, limit) : -ENOMEM;
    } else {
        size = rc;
    }
    close_one(ops, &fd);
    if (size < 0) {
        free(text);
        return slurmlet_fail(why, (int)size, "the pod's %s: %s", name, strerror((int)-size));
    }
    text[size] = '\0';
    *ret_text = text;
    return size;
}
