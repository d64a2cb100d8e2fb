#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/*
 * Who joins must have CAP_SYS_ADMIN in the user namespace that owns a namespace, and leaving the
 * sandbox's user namespace for the container's own below it gives that up: first what the sandbox's
 * owns, then down, then what the container's owns. The mount namespace is the last, because /proc
 * is another one there.
 */
int slurmlet_plan(unsigned int present, unsigned int nested, unsigned int left_out,
                  int ret_order[SLURMLET_KINDS + 1])
{
    unsigned int wanted = present & ~left_out;
    int count = 0;

    for (int kind = SLURMLET_USER + 1; kind < SLURMLET_KINDS; kind++) {
        if (wanted & ~nested & (1U << kind))
            ret_order[count++] = kind;
    }
    if (nested & (1U << SLURMLET_USER))
        ret_order[count++] = SLURMLET_USER;
    for (int kind = SLURMLET_USER + 1; kind < SLURMLET_KINDS; kind++) {
        if (wanted & nested & (1U << kind))
            ret_order[count++] = kind;
    }
    return count;
}

static void close_all(const struct slurmlet_ops *ops, int fds[SLURMLET_KINDS])
{
    for (int kind = 0; kind < SLURMLET_KINDS; kind++) {
        if (fds[kind] >= 0)
            (void)ops->close(ops->context, fds[kind]);
        fds[kind] = -1;
    }
}

static int join_one(const struct slurmlet_ops *ops, int fd, int kind, struct slurmlet_message *why)
{
    int rc = ops->join(ops->context, fd, slurmlet_kind_flag(kind));

    if (rc < 0)
        return slurmlet_fail(why, rc, "cannot join the %s namespace: %s", slurmlet_kind_name(kind),
                             strerror(-rc));
    return 0;
}

static int same(const struct slurmlet_ops *ops, int first, int second)
{
    struct slurmlet_status one, other;
    int rc = ops->status(ops->context, first, &one);

    if (rc == 0)
        rc = ops->status(ops->context, second, &other);
    if (rc < 0)
        return rc;
    return one.device == other.device && one.inode == other.inode;
}

/* 0: the namespace of `fd` (a user namespace, or one with an owner that was asked for) is the
 * sandbox's; 1: one below it; -EPERM: neither. Closes `fd`. */
static int below(const struct slurmlet_ops *ops, int fd, int top)
{
    int rc = -EPERM;

    for (int depth = 0; depth < SLURMLET_USER_DEPTH; depth++) {
        int parent, equal = same(ops, fd, top);

        if (equal != 0) {
            rc = equal < 0 ? equal : depth > 0;
            break;
        }
        /* EPERM where the parent is none of ours to see: we stand in the sandbox's. */
        parent = ops->parent(ops->context, fd);
        (void)ops->close(ops->context, fd);
        fd = parent;
        if (fd < 0)
            return -EPERM;
    }
    (void)ops->close(ops->context, fd);
    return rc;
}

int slurmlet_join_sandbox(const struct slurmlet_ops *ops, const struct slurmlet_sandbox *sandbox,
                          unsigned int left_out, struct slurmlet_message *why)
{
    int order[SLURMLET_KINDS + 1];
    unsigned int present = 0;
    int count, rc = join_one(ops, sandbox->pins[SLURMLET_USER], SLURMLET_USER, why);

    for (int kind = SLURMLET_USER + 1; kind < SLURMLET_KINDS; kind++)
        present |= sandbox->pins[kind] >= 0 ? 1U << kind : 0;
    count = slurmlet_plan(present, 0, left_out, order);
    for (int i = 0; i < count && rc == 0; i++)
        rc = join_one(ops, sandbox->pins[order[i]], order[i], why);
    return rc;
}

/* Opens the container's user, PID and mount namespace and checks that they belong to the sandbox;
 * only possible in the sandbox's user namespace if the container runs as another of its users. */
static int open_own(const struct slurmlet_ops *ops, const struct slurmlet_sandbox *sandbox,
                    const struct slurmlet_container *container, int fds[SLURMLET_KINDS],
                    unsigned int *ret_nested, struct slurmlet_message *why)
{
    static const int kinds[] = {SLURMLET_USER, SLURMLET_PID, SLURMLET_MNT};
    unsigned int nested = 0;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        int kind = kinds[i], belongs, owner;
        char path[16];

        (void)snprintf(path, sizeof(path), "ns/%s", slurmlet_kind_name(kind));
        fds[kind] = ops->open(ops->context, container->directory, path, O_RDONLY);
        if (fds[kind] < 0)
            return slurmlet_fail(why, fds[kind], "the container's %s namespace: %s",
                                 slurmlet_kind_name(kind), strerror(-fds[kind]));
        owner = kind == SLURMLET_USER
                    ? ops->open(ops->context, container->directory, path, O_RDONLY)
                    : ops->owner(ops->context, fds[kind]);
        belongs = owner < 0 ? owner : below(ops, owner, sandbox->pins[SLURMLET_USER]);
        if (belongs < 0)
            return slurmlet_fail(why, belongs,
                                 "the container's %s namespace does not belong to the sandbox: %s",
                                 slurmlet_kind_name(kind), strerror(-belongs));
        nested |= belongs ? 1U << kind : 0;
    }
    *ret_nested = nested;
    return 0;
}

static int check_alive(const struct slurmlet_ops *ops, const struct slurmlet_container *container,
                       struct slurmlet_message *why)
{
    int alive = ops->alive(ops->context, container->pidfd);

    if (alive < 0)
        return slurmlet_fail(why, alive, "the container: %s", strerror(-alive));
    return alive ? 0 : slurmlet_fail(why, -ESRCH, "the container has ended");
}

static int join_all(const struct slurmlet_ops *ops, const struct slurmlet_sandbox *sandbox,
                    int own[SLURMLET_KINDS], unsigned int nested, unsigned int left_out,
                    struct slurmlet_message *why)
{
    unsigned int present = 1U << SLURMLET_PID | 1U << SLURMLET_MNT;
    int order[SLURMLET_KINDS + 1];
    int count, rc = 0;

    for (int kind = SLURMLET_USER + 1; kind < SLURMLET_KINDS; kind++)
        present |= sandbox->pins[kind] >= 0 ? 1U << kind : 0;
    count = slurmlet_plan(present, nested, left_out, order);
    for (int i = 0; i < count && rc == 0; i++) {
        int kind = order[i];

        rc = join_one(ops, own[kind] >= 0 ? own[kind] : sandbox->pins[kind], kind, why);
    }
    return rc;
}

int slurmlet_join_container(const struct slurmlet_ops *ops, const struct slurmlet_sandbox *sandbox,
                            const struct slurmlet_container *container, unsigned int left_out,
                            struct slurmlet_message *why)
{
    bool mounts = !(left_out & (1U << SLURMLET_MNT));
    int own[SLURMLET_KINDS] = {-1, -1, -1, -1, -1, -1};
    unsigned int nested = 0;
    int root = -1;
    int rc = 0;

    if (container->filtered && mounts)
        return slurmlet_fail(why, -EPERM,
                             "the container has a seccomp filter, which cannot be put on a step; "
                             "--k8s-pod-ns=-mnt,-pid gives the node's tools on the pod");
    rc = join_one(ops, sandbox->pins[SLURMLET_USER], SLURMLET_USER, why);
    if (rc == 0)
        rc = open_own(ops, sandbox, container, own, &nested, why);
    if (rc == 0 && mounts) {
        /* The root of a mount namespace need not be the container's: engines also chroot. */
        root = ops->open(ops->context, container->directory, "root", O_PATH | O_DIRECTORY);
        if (root < 0)
            rc = slurmlet_fail(why, root, "the container's root directory: %s", strerror(-root));
    }
    /* All that was opened was this process's, as it lives still. */
    if (rc == 0)
        rc = check_alive(ops, container, why);
    if (rc == 0)
        rc = join_all(ops, sandbox, own, nested, left_out, why);
    if (rc == 0 && mounts) {
        rc = ops->root(ops->context, root);
        if (rc < 0)
            rc = slurmlet_fail(why, rc, "cannot enter the container's root directory: %s",
                               strerror(-rc));
    }
    if (root >= 0)
        (void)ops->close(ops->context, root);
    close_all(ops, own);
    return rc;
}
