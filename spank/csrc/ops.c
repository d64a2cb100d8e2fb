#include "core.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

static int result(int rc)
{
    return rc < 0 ? -errno : rc;
}

static int os_open(void *context, int directory, const char *path, int flags)
{
    (void)context;
    return result(openat(directory, path, flags | O_CLOEXEC));
}

static int os_close(void *context, int fd)
{
    (void)context;
    return result(close(fd));
}

static ssize_t os_read(void *context, int fd, void *buffer, size_t size)
{
    ssize_t got;

    (void)context;
    do
        got = read(fd, buffer, size);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static int os_status(void *context, int fd, struct slurmlet_status *ret_status)
{
    struct stat status;
    struct statfs filesystem;

    (void)context;
    if (fstat(fd, &status) < 0 || fstatfs(fd, &filesystem) < 0)
        return -errno;
    *ret_status = (struct slurmlet_status){
        .device = status.st_dev,
        .inode = status.st_ino,
        .mode = status.st_mode,
        .uid = status.st_uid,
        .size = status.st_size,
        .filesystem = (int64_t)filesystem.f_type,
    };
    return 0;
}

static int os_join(void *context, int fd, int type)
{
    (void)context;
    return result(setns(fd, type));
}

/* The kernel opens what these return with O_CLOEXEC. */
static int os_owner(void *context, int fd)
{
    (void)context;
    return result(ioctl(fd, NS_GET_USERNS));
}

static int os_parent(void *context, int fd)
{
    (void)context;
    return result(ioctl(fd, NS_GET_PARENT));
}

static int os_process(void *context, int pid)
{
    (void)context;
    return result((int)syscall(SYS_pidfd_open, pid, 0));
}

static int os_alive(void *context, int pidfd)
{
    struct pollfd entry = {.fd = pidfd, .events = POLLIN};
    int ready;

    (void)context;
    do
        ready = poll(&entry, 1, 0);
    while (ready < 0 && errno == EINTR);
    return ready < 0 ? -errno : ready == 0;
}

static int os_root(void *context, int fd)
{
    (void)context;
    if (fchdir(fd) < 0 || chroot(".") < 0)
        return -errno;
    return 0;
}

static int64_t os_uid(void *context)
{
    (void)context;
    return getuid();
}

void slurmlet_ops_default(struct slurmlet_ops *ret_ops)
{
    *ret_ops = (struct slurmlet_ops){
        .open = os_open,
        .close = os_close,
        .read = os_read,
        .status = os_status,
        .join = os_join,
        .owner = os_owner,
        .parent = os_parent,
        .process = os_process,
        .alive = os_alive,
        .root = os_root,
        .uid = os_uid,
    };
}

int slurmlet_kind_flag(int kind)
{
    static const int flags[SLURMLET_KINDS] = {
        [SLURMLET_USER] = CLONE_NEWUSER, [SLURMLET_IPC] = CLONE_NEWIPC,
        [SLURMLET_UTS] = CLONE_NEWUTS,   [SLURMLET_NET] = CLONE_NEWNET,
        [SLURMLET_PID] = CLONE_NEWPID,   [SLURMLET_MNT] = CLONE_NEWNS,
    };

    return kind >= 0 && kind < SLURMLET_KINDS ? flags[kind] : 0;
}
