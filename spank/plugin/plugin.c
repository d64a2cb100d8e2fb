/*
 * What Slurm calls. It loads the plugin into every srun, salloc and sbatch, into slurmd, into each
 * slurmstepd and into the processes of prolog and epilog.
 *
 * Nothing but a wrong option is returned as an error: Slurm drains a node for one of prolog, epilog
 * or user_init, and ignores all others of an `optional` plugin. Clients and tasks end themselves.
 */
#include "plugin.h"

SPANK_PLUGIN(slurmlet, 1)

int slurm_spank_init(spank_t spank, int argc, char *argv[])
{
    (void)argc;
    (void)argv;
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

int slurm_spank_init_post_opt(spank_t spank, int argc, char *argv[])
{
    spank_context_t context = spank_context();

    (void)spank;
    (void)argc;
    (void)argv;
    if (context == S_CTX_LOCAL || context == S_CTX_ALLOCATOR)
        client_ready(context == S_CTX_ALLOCATOR);
    return 0;
}

int slurm_spank_local_user_init(spank_t spank, int argc, char *argv[])
{
    (void)argc;
    (void)argv;
    client_launch(spank);
    return 0;
}

int slurm_spank_task_init(spank_t spank, int argc, char *argv[])
{
    (void)argc;
    (void)argv;
    return task_start(spank);
}

int slurm_spank_job_prolog(spank_t spank, int argc, char *argv[])
{
    (void)argc;
    (void)argv;
    node_prolog(spank);
    return 0;
}

int slurm_spank_job_epilog(spank_t spank, int argc, char *argv[])
{
    (void)argc;
    (void)argv;
    node_epilog(spank);
    return 0;
}
