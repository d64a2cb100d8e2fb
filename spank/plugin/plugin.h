#ifndef SLURMLET_PLUGIN_H
#define SLURMLET_PLUGIN_H

#include "../csrc/core.h"

#include <slurm/spank.h>

#define SLURMLET_PREFIX "/opt/slurmlet/current"
#define SLURMLET_ENTER SLURMLET_PREFIX "/bin/slurmlet-enter"
#define SLURMLET_PYTHON SLURMLET_PREFIX "/bin/python"
#define SLURMLET_JOBS "/run/slurmlet/jobs"
#define SLURMLET_RESTING "/run/slurmlet/resting"
#define SLURMLET_TOMBSTONE "removed"
#define SLURMLET_DISABLED "/run/slurmlet/disabled"
#define SLURMLET_GUARD "/slurmlet-is-missing-on-this-node"
#define SLURMLET_CREDENTIAL "SLURMLET_CREDENTIAL"

#define log_error(format, ...) slurm_error("slurmlet: " format, ##__VA_ARGS__)

/* What the options said; each process that loads the plugin has one. */
struct options {
    struct slurmlet_target target;
    char pod[SLURMLET_NAMESPACE_MAX + SLURMLET_POD_MAX + SLURMLET_CONTAINER_MAX + 3];
    char left_out[64];
    char sandbox[8];
    /* Given, but wrong; the message was logged when it was read. */
    bool wrong;
};

extern struct options slurmlet_options;

int options_register(spank_t spank);
/* In the prolog, where Slurm calls back for no option. */
void options_of_job(spank_t spank);
int option_pod(const char *text);
int option_left_out(const char *text);

/* srun; salloc and sbatch */
void client_start(spank_t spank);
/* Both end the client with a message rather than let the command run elsewhere. */
void client_ready(bool allocator);
void client_launch(spank_t spank);

/* The newest running job of this user that is the pod's; 0 with a message if there is none. */
uint32_t find_job(const struct slurmlet_target *target, struct slurmlet_message *why);

/* A task of a step */
int task_start(spank_t spank);

/* slurmd, and its processes for prolog and epilog */
void node_start(void);
void node_prolog(spank_t spank);
void node_epilog(spank_t spank);

#endif
