#include "plugin.h"

#include <errno.h>
#include <slurm/slurm.h>
#include <slurm/slurm_errno.h>
#include <string.h>
#include <unistd.h>

static bool is_better(const slurm_job_info_t *job, const slurm_job_info_t *best)
{
    bool runs = (job->job_state & JOB_STATE_BASE) == JOB_RUNNING;

    if (!best)
        return true;
    if (runs != ((best->job_state & JOB_STATE_BASE) == JOB_RUNNING))
        return runs;
    return job->start_time > best->start_time ||
           (job->start_time == best->start_time && job->job_id > best->job_id);
}

static const char *state_of(const slurm_job_info_t *job)
{
    switch (job->job_state & JOB_STATE_BASE) {
    case JOB_PENDING:
        return "pending";
    case JOB_SUSPENDED:
        return "suspended";
    default:
        return "over";
    }
}

/* The name is only a hint, which the user may have forged to reach another job of his own; the
 * compute node decides. slurmctld itself refuses steps in jobs of others. */
uint32_t find_job(const struct slurmlet_target *target, struct slurmlet_message *why)
{
    job_info_msg_t *jobs = NULL;
    const slurm_job_info_t *best = NULL;
    uint32_t found = 0;

    if (slurm_load_job_user(&jobs, getuid(), SHOW_ALL) != SLURM_SUCCESS) {
        (void)slurmlet_fail(why, -1, "cannot ask Slurm for your jobs: %s", slurm_strerror(errno));
        return 0;
    }
    for (uint32_t i = 0; i < jobs->record_count; i++) {
        const slurm_job_info_t *job = &jobs->job_array[i];

        if (job->user_id == getuid() && job->name && slurmlet_is_job_name(job->name, target) &&
            is_better(job, best))
            best = job;
    }
    if (!best)
        (void)slurmlet_fail(why, -1, "none of your jobs is pod %s/%s", target->namespace,
                            target->pod);
    else if ((best->job_state & JOB_STATE_BASE) != JOB_RUNNING)
        (void)slurmlet_fail(why, -1, "pod %s/%s is not running: its job %u is %s",
                            target->namespace, target->pod, best->job_id, state_of(best));
    else
        found = best->job_id;
    slurm_free_job_info_msg(jobs);
    return found;
}
