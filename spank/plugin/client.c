/*
 * srun, salloc and sbatch. When the plugin learns which pod is meant, srun has read its input
 * variables already; so it starts itself anew, once, inside the pod's job. In salloc and sbatch the
 * option is for the sruns inside.
 */
#include "../csrc/cleanup.h"
#include "plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define AGAIN "SLURMLET_SRUN"
#define POD "SLURM_K8S_POD"
#define LEFT_OUT "SLURM_K8S_POD_NS"

enum { WORDS_MAX = 4 << 20, PROGRAMS_MAX = 1 << 20 };

static struct {
    /* As it was before Slurm read and changed it. */
    char **environment;
    /* This srun was started by another one; "multi" with --multi-prog. */
    char again[8];
} client;

static char **copy_environment(void)
{
    size_t count = 0;
    char **copy;

    while (environ[count])
        count++;
    copy = calloc(count + 1, sizeof(*copy));
    for (size_t i = 0; copy && i < count; i++) {
        copy[i] = strdup(environ[i]);
        if (!copy[i])
            return NULL;
    }
    return copy;
}

void client_start(spank_t spank)
{
    const char *again = getenv(AGAIN), *credential = getenv(SLURMLET_CREDENTIAL);

    if (again) {
        (void)snprintf(client.again, sizeof(client.again), "%s", again);
        (void)unsetenv(AGAIN);
    } else if (spank_context() == S_CTX_LOCAL) {
        client.environment = copy_environment();
    }
    if (credential) {
        /* For the prolog alone; the job shall not see it. */
        (void)spank_job_control_setenv(spank, SLURMLET_CREDENTIAL, credential, 1);
        (void)unsetenv(SLURMLET_CREDENTIAL);
    }
}

/* The words of this process, each ended by NUL. */
static char **own_words(char **ret_text, int *ret_count)
{
    cleanup_fd fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    cleanup_free char *text = malloc(WORDS_MAX);
    char **words;
    size_t size = 0;
    int count = 0;

    while (fd >= 0 && text && size < WORDS_MAX) {
        ssize_t got = read(fd, text + size, WORDS_MAX - size);

        if (got < 0)
            return NULL;
        if (got == 0)
            break;
        size += (size_t)got;
    }
    if (fd < 0 || !text || size == 0 || size == WORDS_MAX || text[size - 1] != '\0')
        return NULL;
    for (size_t at = 0; at < size; at += strlen(text + at) + 1)
        count++;
    words = calloc((size_t)count + 1, sizeof(*words));
    if (!words)
        return NULL;
    count = 0;
    for (size_t at = 0; at < size; at += strlen(text + at) + 1)
        words[count++] = text + at;
    *ret_text = text;
    text = NULL;
    *ret_count = count;
    return words;
}

/* The file of --multi-prog with the guard in it, in memory; its descriptor stays open over exec. */
static int guarded_programs(const char *path)
{
    cleanup_fd from = open(path, O_RDONLY | O_CLOEXEC);
    cleanup_free char *text = malloc(PROGRAMS_MAX + 1), *guarded = NULL;
    cleanup_fd into = -1;
    ssize_t size;

    if (from < 0 || !text)
        return -errno;
    size = read(from, text, PROGRAMS_MAX);
    if (size < 0)
        return -errno;
    if (size == PROGRAMS_MAX)
        return -EFBIG;
    text[size] = '\0';
    guarded = slurmlet_srun_programs(text, SLURMLET_GUARD);
    into = memfd_create("slurmlet-multi-prog", 0);
    if (!guarded || into < 0)
        return -errno;
    if (write(into, guarded, strlen(guarded)) != (ssize_t)strlen(guarded) ||
        lseek(into, 0, SEEK_SET) < 0)
        return -EIO;
    return take_fd(&into);
}

static bool is_inside(uint32_t job)
{
    const char *text = getenv("SLURM_JOB_ID");

    return text && strtoul(text, NULL, 10) == job;
}

static const char *refused(const struct slurmlet_srun *srun)
{
    if (srun->refused)
        return srun->refused;
    if (getenv("SLURM_BCAST"))
        return "SLURM_BCAST";
    return getenv("SLURM_CONTAINER") ? "SLURM_CONTAINER" : NULL;
}

static int start_again(const struct slurmlet_srun *srun, char **words, int count, int command,
                       uint32_t job)
{
    char pod[sizeof(slurmlet_options.pod) + 16], config[32], directory[SLURMLET_PATH_MAX + 32];
    char name[NAME_MAX + 16];
    char left_out[sizeof(slurmlet_options.left_out) + 32], job_id[48];
    char overlap[] = "SLURM_OVERLAP=1", plain[] = AGAIN "=plain", multi[] = AGAIN "=multi";
    char *options[] = {pod, name, NULL};
    char *added[8] = {overlap, srun->multi_prog ? multi : plain};
    cleanup_free char **argv = NULL, **environment = NULL;
    size_t extra = 2;
    sigset_t none;

    (void)snprintf(pod, sizeof(pod), "--k8s-pod=%s", slurmlet_options.pod);
    /* Else the step would be called as the guard is; a name that the user gives stands behind. */
    (void)snprintf(name, sizeof(name), "--job-name=%.*s", NAME_MAX, basename(words[command]));
    if (slurmlet_options.left_out[0]) {
        (void)snprintf(left_out, sizeof(left_out), LEFT_OUT "=%s", slurmlet_options.left_out);
        added[extra++] = left_out;
    }
    if (job) {
        (void)snprintf(job_id, sizeof(job_id), "SLURM_JOB_ID=%u", job);
        added[extra++] = job_id;
    }
    if (srun->directory) {
        if (srun->directory[0] != '/' || strlen(srun->directory) >= SLURMLET_PATH_MAX) {
            log_error("--chdir=%.80s: give an absolute path of the pod", srun->directory);
            return -1;
        }
        (void)snprintf(directory, sizeof(directory), "SLURM_K8S_DIRECTORY=%s", srun->directory);
        added[extra++] = directory;
    }
    if (srun->multi_prog) {
        int fd = guarded_programs(words[command]);

        if (fd < 0) {
            log_error("%s: %s", words[command], strerror(-fd));
            return -1;
        }
        (void)snprintf(config, sizeof(config), "/proc/self/fd/%d", fd);
    }
    argv = slurmlet_srun_words(count, words, command, srun, options, SLURMLET_GUARD,
                               srun->multi_prog ? config : NULL);
    environment = slurmlet_srun_environment(client.environment, job && !is_inside(job), added);
    if (!argv || !environment) {
        log_error("out of memory");
        return -1;
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)execve("/proc/self/exe", argv, environment);
    log_error("cannot start srun anew: %s", strerror(errno));
    return -1;
}

static int enter_job(void)
{
    cleanup_free char *text = NULL;
    cleanup_free char **words = NULL;
    struct slurmlet_message why = {""};
    struct slurmlet_srun srun;
    /* srun has read its options with getopt_long, which left the index of the command here. */
    int count = 0, command = optind;
    const char *with;
    uint32_t job = 0;

    words = own_words(&text, &count);
    if (!words || !client.environment || command < 1 || command > count) {
        log_error("cannot read srun's own command line");
        return -1;
    }
    slurmlet_srun_read(count, words, command, &srun);
    with = refused(&srun);
    if (with) {
        log_error("--k8s-pod cannot be used together with %s", with);
        return -1;
    }
    if (command == count) {
        log_error("--k8s-pod: say what to run in the pod");
        return -1;
    }
    if (!srun.job_given) {
        job = find_job(&slurmlet_options.target, &why);
        if (!job) {
            log_error("%s", why.text);
            return -1;
        }
    }
    return start_again(&srun, words, count, command, job);
}

static int read_variables(void)
{
    const char *pod = getenv(POD), *left_out = getenv(LEFT_OUT);

    if (!slurmlet_options.pod[0] && pod && pod[0] && option_pod(pod) < 0)
        return -1;
    if (!slurmlet_options.left_out[0] && left_out && left_out[0] && option_left_out(left_out) < 0)
        return -1;
    return slurmlet_options.wrong ? -1 : 0;
}

static int for_inner_sruns(void)
{
    if (setenv(POD, slurmlet_options.pod, 1) < 0)
        return -1;
    if (!slurmlet_options.left_out[0])
        return 0;
    return setenv(LEFT_OUT, slurmlet_options.left_out, 1);
}

void client_ready(bool allocator)
{
    int rc = read_variables();

    if (rc == 0 && slurmlet_options.pod[0]) {
        if (allocator)
            rc = for_inner_sruns();
        else if (!client.again[0])
            rc = enter_job();
    }
    /* From an `optional` plugin an error is ignored, and the command would run on the host. */
    if (rc < 0)
        exit(EXIT_FAILURE);
}

/* Whoever set our variable himself has no guard before his command, and with no plugin on the
 * compute node the command would run there, outside of the pod. */
void client_launch(spank_t spank)
{
    char **words = NULL;
    int count = 0;

    if (!slurmlet_options.pod[0])
        return;
    if (spank_get_item(spank, S_JOB_ARGV, &count, &words) == ESPANK_SUCCESS && count > 0 &&
        (strcmp(words[0], SLURMLET_GUARD) == 0 || strcmp(client.again, "multi") == 0))
        return;
    log_error("srun was not started anew inside the pod's job");
    exit(EXIT_FAILURE);
}
