#include "plugin.h"

#include <slurm/slurm.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Noreturn void refuse(const char *text)
{
    log_error("%s", text);
    /* An error that is returned is ignored, and the command runs on the host. */
    _exit(1);
}

/* The scripts of sbatch and salloc stay where they are; their sruns go into the pod. */
static bool is_script(spank_t spank)
{
    uint32_t step;

    if (spank_get_item(spank, S_JOB_STEPID, &step) != ESPANK_SUCCESS)
        refuse("cannot tell which step this is");
    return step == SLURM_BATCH_SCRIPT || step == SLURM_INTERACTIVE_STEP ||
           step == SLURM_EXTERN_CONT;
}

int task_start(spank_t spank)
{
    static char pod[sizeof(slurmlet_options.pod) + 8], job[32], left_out[128],
        directory[SLURMLET_PATH_MAX + 16];
    char value[SLURMLET_PATH_MAX];
    const char *words[8] = {SLURMLET_ENTER, job, pod};
    int count = 3;
    uint32_t id;

    if ((!slurmlet_options.pod[0] && !slurmlet_options.wrong) || is_script(spank))
        return 0;
    if (slurmlet_options.wrong)
        refuse("--k8s-pod or --k8s-pod-ns is wrong");
    if (spank_getenv(spank, "SLURM_CONTAINER", value, sizeof(value)) != ESPANK_ENV_NOEXIST)
        refuse("--k8s-pod cannot be used together with --container");
    if (spank_get_item(spank, S_JOB_ID, &id) != ESPANK_SUCCESS)
        refuse("cannot tell which job this is");
    (void)snprintf(job, sizeof(job), "--job=%u", id);
    (void)snprintf(pod, sizeof(pod), "--pod=%s", slurmlet_options.pod);
    if (!slurmlet_options.left_out[0] &&
        spank_getenv(spank, "SLURM_K8S_POD_NS", value, 64) == ESPANK_SUCCESS && value[0] &&
        option_left_out(value) < 0)
        refuse("SLURM_K8S_POD_NS is wrong");
    if (slurmlet_options.left_out[0]) {
        (void)snprintf(left_out, sizeof(left_out), "--ns=%s", slurmlet_options.left_out);
        words[count++] = left_out;
    }
    if (spank_getenv(spank, "SLURM_K8S_DIRECTORY", value, sizeof(value)) == ESPANK_SUCCESS) {
        (void)snprintf(directory, sizeof(directory), "--directory=%s", value);
        words[count++] = directory;
    }
    words[count++] = "--";
    if (spank_prepend_task_argv(spank, count, words) != ESPANK_SUCCESS)
        refuse("Slurm lets nothing stand before the command");
    return 0;
}
