/*
 * What Slurm calls. It loads the plugin into every srun, salloc and sbatch, into slurmd, into each
 * slurmstepd and into the processes of prolog and epilog.
 *
 * Nothing but a wrong option is returned as an error: Slurm drains a node for one of prolog, epilog
 * or user_init, and ignores all others of an `optional` plugin. Clients and tasks end themselves.
 */
#include "plugin.h"

#include <time.h>

SPANK_PLUGIN(slurmlet, 1)

static int64_t now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* For `srun -vvv --slurmd-debug=debug2`. Before srun has read its options it logs nothing, so the
 * last hook tells the sum. */
static int trace(const char *hook, int64_t begin, int rc)
{
    static int64_t sum;
    int64_t spent = now_us() - begin;

    sum += spent;
    slurm_debug2("slurmlet: %s took %d us, all of them %d us", hook, (int)spent, (int)sum);
    return rc;
}

static int start(spank_t spank)
{
    switch (spank_context()) {
    case S_CTX_LOCAL:
    case S_CTX_ALLOCATOR:
        client_start(spank);
        return options_register(spank);
    case S_CTX_REMOTE:
        return options_register(spank);
    case S_CTX_SLURMD:
        node_start();
        return 0;
    default:
        return 0;
    }
}

int slurm_spank_init(spank_t spank, int argc, char *argv[])
{
    int64_t begin = now_us();

    (void)argc;
    (void)argv;
    return trace("init", begin, start(spank));
}

int slurm_spank_init_post_opt(spank_t spank, int argc, char *argv[])
{
    int64_t begin = now_us();
    spank_context_t context = spank_context();

    (void)spank;
    (void)argc;
    (void)argv;
    if (context == S_CTX_LOCAL || context == S_CTX_ALLOCATOR)
        client_ready(context == S_CTX_ALLOCATOR);
    return trace("init_post_opt", begin, 0);
}

int slurm_spank_local_user_init(spank_t spank, int argc, char *argv[])
{
    int64_t begin = now_us();

    (void)argc;
    (void)argv;
    client_launch(spank);
    return trace("local_user_init", begin, 0);
}

int slurm_spank_task_init(spank_t spank, int argc, char *argv[])
{
    int64_t begin = now_us();

    (void)argc;
    (void)argv;
    return trace("task_init", begin, task_start(spank));
}

int slurm_spank_job_prolog(spank_t spank, int argc, char *argv[])
{
    int64_t begin = now_us();

    (void)argc;
    (void)argv;
    node_prolog(spank);
    return trace("job_prolog", begin, 0);
}

int slurm_spank_job_epilog(spank_t spank, int argc, char *argv[])
{
    int64_t begin = now_us();

    (void)argc;
    (void)argv;
    node_epilog(spank);
    return trace("job_epilog", begin, 0);
}
