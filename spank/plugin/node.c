/*
 * slurmd, and the processes that it starts for prolog and epilog: all as root. Everything that
 * reads a file or speaks to a program happens in slurmlet-sandbox, a process of its own.
 */
#include "../csrc/cleanup.h"
#include "plugin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <slurm/slurm.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum {
    /* Seconds for one call: namespaces take 0.1 s, a CNI plugin on a busy node a few. */
    SECONDS = 45,
    OUTPUT = 2048,
    /* Bytes of a credential: munge's own limit of a payload is far above what the broker puts in.
     */
    CREDENTIAL = 4096,
};

/* Slurm's configuration in the process that we are loaded into; libslurmfull exports it. */
extern slurm_conf_t slurm_conf __attribute__((weak));

static const char *obstacle(void)
{
    static const char *const kinds[] = {"mnt", "user", "pid", "net", "ipc", "uts"};
    static char text[128];

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        struct stat own, first;
        char path[2][32];

        (void)snprintf(path[0], sizeof(path[0]), "/proc/self/ns/%s", kinds[i]);
        (void)snprintf(path[1], sizeof(path[1]), "/proc/1/ns/%s", kinds[i]);
        if (stat(path[0], &own) < 0 || stat(path[1], &first) < 0 || own.st_ino != first.st_ino) {
            (void)snprintf(text, sizeof(text),
                           "slurmd is not in the %s namespace of process 1 (PrivateMounts= or "
                           "the like in its unit)",
                           kinds[i]);
            return text;
        }
    }
    if (!&slurm_conf)
        return NULL;
#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(25, 11, 0)
    if (slurm_conf.job_container_plugin && slurm_conf.job_container_plugin[0] &&
        !strstr(slurm_conf.job_container_plugin, "none"))
        return "JobContainerType is set: job_container plugins hide the host's mounts from jobs";
#else
    if (slurm_conf.namespace_plugin && slurm_conf.namespace_plugin[0] &&
        !strstr(slurm_conf.namespace_plugin, "none"))
        return "NamespaceType is set: namespace plugins hide the host's mounts from jobs";
#endif
    if (!(slurm_conf.prolog_flags & (PROLOG_FLAG_ALLOC | PROLOG_FLAG_CONTAIN)))
        return "PrologFlags lacks Alloc or Contain: the sandbox would come after the job";
    if (slurm_conf.prolog_flags & PROLOG_FLAG_RUN_IN_JOB)
        return "PrologFlags has RunInJob: the prolog would be limited as the job is";
    return NULL;
}

/* The helper's whole world: no variable, descriptor or limit of the job's reaches it. */
static _Noreturn void become_helper(const char *const words[], int input, int output)
{
    static const char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
                                              NULL};
    static const struct {
        int resource;
        rlim_t limit;
    } limits[] = {{RLIMIT_CORE, 0},
                  {RLIMIT_CPU, 30},
                  {RLIMIT_NOFILE, 256},
                  {RLIMIT_FSIZE, 16 << 20},
                  /* Not RLIMIT_AS: a CNI plugin is a Go program, whose runtime reserves more
                   * address space than it uses, and dies at random when it gets less. */
                  {RLIMIT_DATA, 1 << 30}};
    sigset_t none;
    char *const *argv, *const *envp;

    for (int number = 1; number < NSIG; number++)
        (void)signal(number, SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setsid();
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        struct rlimit limit = {limits[i].limit, limits[i].limit};

        (void)setrlimit((__rlimit_resource_t)limits[i].resource, &limit);
    }
    /* Slurm may have started us without the standard descriptors: ours would be among them. */
    input = fcntl(input, F_DUPFD, 3);
    output = fcntl(output, F_DUPFD, 3);
    if (dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0 || syscall(SYS_close_range, 3U, ~0U, 0U) < 0 ||
        chdir("/") < 0)
        _exit(126);
    (void)umask(022);
    memcpy(&argv, &words, sizeof(argv));
    const char *const *list = environment;
    memcpy(&envp, &list, sizeof(envp));
    (void)execve(words[0], argv, envp);
    _exit(127);
}

static int64_t now_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Until the helper closes its output or its time is over; what it says fits or is cut. */
static void listen_to(int fd, char text[OUTPUT])
{
    int64_t end = now_ms() + SECONDS * 1000;
    size_t size = 0;

    for (;;) {
        struct pollfd entry = {.fd = fd, .events = POLLIN};
        char beyond[512];
        bool room = size < OUTPUT - 1;
        int64_t left = end - now_ms();
        ssize_t got;

        if (left <= 0 || (poll(&entry, 1, (int)left) <= 0 && errno != EINTR))
            break;
        got = read(fd, room ? text + size : beyond, room ? OUTPUT - 1 - size : sizeof(beyond));
        if (got == 0 || (got < 0 && errno != EINTR))
            break;
        if (got > 0 && room)
            size += (size_t)got;
    }
    text[size] = '\0';
    text[strcspn(text, "\n")] = '\0';
}

static void reap(pid_t child, const char *verb, const char *said)
{
    int status = 0;

    /* It closed its output, most likely by ending: that is a matter of microseconds. */
    for (int i = 0; i < 1000; i++) {
        pid_t done = waitpid(child, &status, WNOHANG);

        if (done == child) {
            if (status != 0 || said[0])
                log_error("slurmlet-sandbox %s: %s (status %d)", verb, said, status);
            return;
        }
        if (done < 0 && errno != EINTR)
            return;
        (void)poll(NULL, 0, 1);
    }
    (void)kill(-child, SIGKILL);
    (void)kill(child, SIGKILL);
    log_error("slurmlet-sandbox %s was killed after %d s", verb, SECONDS);
    (void)waitpid(child, &status, 0);
}

static void run_helper(const char *const words[], const char *verb, const char *input)
{
    char said[OUTPUT] = "";
    cleanup_fd in = memfd_create("slurmlet-credential", MFD_CLOEXEC);
    int pipes[2];
    pid_t child;

    if (in < 0 || pipe2(pipes, O_CLOEXEC) < 0) {
        log_error("slurmlet-sandbox %s: %s", verb, strerror(errno));
        return;
    }
    if (write(in, input, strlen(input)) != (ssize_t)strlen(input) || lseek(in, 0, SEEK_SET) < 0) {
        log_error("slurmlet-sandbox %s: %s", verb, strerror(errno));
        (void)close(pipes[0]);
        (void)close(pipes[1]);
        return;
    }
    child = fork();
    if (child == 0)
        become_helper(words, in, pipes[1]);
    (void)close(pipes[1]);
    if (child < 0) {
        log_error("slurmlet-sandbox %s: %s", verb, strerror(errno));
    } else {
        listen_to(pipes[0], said);
        reap(child, verb, said);
    }
    (void)close(pipes[0]);
}

void node_start(void)
{
    const char *why = obstacle();
    const char *const garbage[] = {SLURMLET_PYTHON, "-I", "-m", "slurmlet.spank", "garbage", NULL};

    (void)unlink(SLURMLET_DISABLED);
    if (why) {
        cleanup_fd fd = -1;

        (void)mkdir("/run/slurmlet", 0755);
        fd = open(SLURMLET_DISABLED, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
        if (fd >= 0)
            (void)!write(fd, why, strlen(why));
        log_error("no pod sandboxes on this node: %s", why);
        return;
    }
    /* Also where nothing was left: a node that forwards for pods does so before the first one. */
    run_helper(garbage, "garbage", "");
}

static bool job_of(spank_t spank, uint32_t *ret_job)
{
    return spank_get_item(spank, S_JOB_ID, ret_job) == ESPANK_SUCCESS;
}

void node_prolog(spank_t spank)
{
    const char *credential = getenv("SPANK_" SLURMLET_CREDENTIAL);
    char job_word[32], uid_word[32], gid_word[32], mode_word[32];
    const char *words[] = {
        SLURMLET_PYTHON, "-I", "-m", "slurmlet.spank", "make", job_word, uid_word,
        gid_word,        NULL, NULL};
    uint32_t job;
    uid_t uid;
    gid_t gid;

    options_of_job(spank);
    /* No pod and nothing asked for: no helper is started. */
    if (!credential && !slurmlet_options.sandbox[0])
        return;
    if (access(SLURMLET_DISABLED, F_OK) == 0)
        return;
    if (!job_of(spank, &job) || spank_get_item(spank, S_JOB_UID, &uid) != ESPANK_SUCCESS ||
        spank_get_item(spank, S_JOB_GID, &gid) != ESPANK_SUCCESS) {
        log_error("cannot tell whose job this is");
        return;
    }
    (void)snprintf(job_word, sizeof(job_word), "--job=%u", job);
    (void)snprintf(uid_word, sizeof(uid_word), "--uid=%u", uid);
    (void)snprintf(gid_word, sizeof(gid_word), "--gid=%u", gid);
    if (slurmlet_options.sandbox[0]) {
        (void)snprintf(mode_word, sizeof(mode_word), "--mode=%s", slurmlet_options.sandbox);
        words[8] = mode_word;
    }
    run_helper(words, "make",
               credential && strnlen(credential, CREDENTIAL) < CREDENTIAL ? credential : "");
}

/* Before the helper, which may be killed before it can say that this sandbox is nobody's. */
static void bury(const char *sandbox)
{
    char path[80];
    cleanup_fd fd = -1;

    (void)snprintf(path, sizeof(path), "%s/" SLURMLET_TOMBSTONE, sandbox);
    fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0 && errno != ENOENT)
        log_error("%s: %s", path, strerror(errno));
}

/* Whether a pod's address has rested for long enough to be free: slurmlet-sandbox sets the time of
 * its file to when that is. */
static bool is_something_due(void)
{
    DIR *resting = opendir(SLURMLET_RESTING);
    const struct dirent *entry;
    bool found = false;

    while (resting && !found && (entry = readdir(resting))) {
        struct stat status;

        found = entry->d_name[0] != '.' &&
                fstatat(dirfd(resting), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                status.st_mtime < time(NULL);
    }
    if (resting)
        (void)closedir(resting);
    return found;
}

/* Whether an earlier epilog did not come to its end. */
static bool is_something_left(void)
{
    DIR *jobs = opendir(SLURMLET_JOBS);
    const struct dirent *entry;
    bool found = false;

    while (jobs && !found && (entry = readdir(jobs))) {
        char name[300];

        (void)snprintf(name, sizeof(name), "%s/" SLURMLET_TOMBSTONE, entry->d_name);
        found = faccessat(dirfd(jobs), name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    }
    if (jobs)
        (void)closedir(jobs);
    return found;
}

void node_epilog(spank_t spank)
{
    char job_word[32], path[64];
    const char *const words[] = {SLURMLET_PYTHON, "-I",     "-m", "slurmlet.spank",
                                 "remove",        job_word, NULL};
    const char *const garbage[] = {SLURMLET_PYTHON, "-I", "-m", "slurmlet.spank", "garbage", NULL};
    uint32_t job;

    if (!job_of(spank, &job))
        return;
    (void)snprintf(path, sizeof(path), SLURMLET_JOBS "/%u", job);
    if (access(path, F_OK) == 0 || errno != ENOENT) {
        (void)snprintf(job_word, sizeof(job_word), "--job=%u", job);
        bury(path);
        run_helper(words, "remove", "");
    }
    /* Also in the epilog of a job that had no sandbox: the next pod may be far. */
    if (is_something_left() || is_something_due())
        run_helper(garbage, "garbage", "");
}
