#include "core.h"

#include <stdlib.h>
#include <string.h>

/* getopt_long(3) takes any unambiguous beginning of a long option; `least` is how many characters
 * of it srun needs to tell it from others. */
static bool is_long(const char *word, const char *option, size_t least, const char **ret_value)
{
    size_t length = strcspn(word, "=");

    if (length < least || strncmp(word, option, length) != 0 || length > strlen(option))
        return false;
    *ret_value = word[length] == '=' ? word + length + 1 : NULL;
    return true;
}

static void take_directory(struct slurmlet_srun *srun, int at, int words, const char *value)
{
    srun->directory = value;
    srun->directory_at = at;
    srun->directory_words = words;
}

void slurmlet_srun_read(int argc, char *const *argv, int command, struct slurmlet_srun *ret_srun)
{
    struct slurmlet_srun srun = {0};

    for (int i = 1; i < command && i < argc; i++) {
        const char *word = argv[i], *value = NULL;
        const char *next = i + 1 < command ? argv[i + 1] : NULL;

        if (strcmp(word, "--") == 0)
            break;
        if (is_long(word, "--jobid", strlen("--jobi"), &value))
            srun.job_given = true;
        else if (is_long(word, "--multi-prog", strlen("--mul"), &value))
            srun.multi_prog = true;
        else if (is_long(word, "--bcast", strlen("--bca"), &value))
            srun.refused = "--bcast";
        else if (is_long(word, "--container", strlen("--conta"), &value))
            srun.refused = "--container";
        else if (is_long(word, "--chdir", strlen("--chd"), &value) && (value || next))
            take_directory(&srun, i, value ? 1 : 2, value ? value : next);
        else if (strcmp(word, "-D") == 0 && next)
            take_directory(&srun, i, 2, next);
        else if (strncmp(word, "-D", 2) == 0 && word[2])
            take_directory(&srun, i, 1, word + 2);
    }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], ":") == 0)
            srun.refused = "a heterogeneous step (:)";
    }
    *ret_srun = srun;
}

/* The lists are of char *, as execve(2) wants them; it changes nothing in them. */
static char *word_of(const char *text)
{
    char *word;

    memcpy(&word, &text, sizeof(word));
    return word;
}

static size_t count_of(char *const *list)
{
    size_t count = 0;

    while (list[count])
        count++;
    return count;
}

char **slurmlet_srun_words(int argc, char *const *argv, int command,
                           const struct slurmlet_srun *srun, char *const *options,
                           const char *guard, const char *config)
{
    char **words = calloc((size_t)argc + count_of(options) + 2, sizeof(*words));
    int count = 0;

    if (!words)
        return NULL;
    words[count++] = argv[0];
    for (; *options; options++)
        words[count++] = *options;
    for (int i = 1; i < argc; i++) {
        if (srun->directory && i >= srun->directory_at &&
            i < srun->directory_at + srun->directory_words)
            continue;
        if (i == command && config) {
            words[count++] = word_of(config);
            continue;
        }
        if (i == command)
            words[count++] = word_of(guard);
        words[count++] = argv[i];
    }
    return words;
}

/* Input variables of srun that a job sets for its own steps; in another job they are wrong. */
static bool is_of_job(const char *entry)
{
    static const char *const names[] = {
        "SLURM_JOB_ID=",
        "SLURM_JOBID=",
        "SLURM_NTASKS",
        "SLURM_NPROCS=",
        "SLURM_NNODES=",
        "SLURM_JOB_NUM_NODES=",
        "SLURM_JOB_NODELIST=",
        "SLURM_NODELIST=",
        "SLURM_TASKS_PER_NODE=",
        "SLURM_CPUS_PER_",
        "SLURM_MEM_PER_",
        "SLURM_GPUS",
        "SLURM_TRES",
        "SLURM_STEP",
        "SLURM_HINT=",
        "SLURM_DISTRIBUTION=",
        "SLURM_JOB_CPUS_PER_NODE=",
        "SLURM_EXCLUSIVE=",
        "SLURM_EXACT=",
        "SLURM_CPU_BIND",
        "SLURM_MEM_BIND",
        "SLURM_GRES=",
        "SLURM_THREADS_PER_CORE=",
        "SLURM_CORE_SPEC=",
        "SLURM_LABELIO=",
        "SLURM_HET_",
        "SLURM_SPREAD_JOB=",
        "SLURM_PARTITION=",
        "SLURM_RESERVATION=",
        "SLURM_ACCOUNT=",
        "SLURM_QOS=",
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    }
    return false;
}

static bool is_named(char *const *list, const char *entry)
{
    size_t length = strcspn(entry, "=") + 1;

    for (; *list; list++) {
        if (strncmp(*list, entry, length) == 0)
            return true;
    }
    return false;
}

char **slurmlet_srun_environment(char *const *own, bool foreign, char *const *added)
{
    char **merged = calloc(count_of(own) + count_of(added) + 1, sizeof(*merged));
    size_t count = 0;

    if (!merged)
        return NULL;
    for (; *own; own++) {
        if (!(foreign && is_of_job(*own)) && !is_named(added, *own))
            merged[count++] = *own;
    }
    for (; *added; added++)
        merged[count++] = *added;
    return merged;
}

char *slurmlet_srun_programs(const char *text, const char *guard)
{
    size_t lines = 1, length = strlen(text), used = 0;
    bool continued = false;
    char *out;

    for (const char *at = text; *at; at++)
        lines += *at == '\n';
    out = malloc(length + lines * (strlen(guard) + 1) + 1);
    if (!out)
        return NULL;
    while (*text) {
        size_t line = strcspn(text, "\n");
        size_t ranks = strspn(text, " \t");

        if (!continued && text[ranks] != '#' && ranks < line) {
            ranks += strcspn(text + ranks, " \t\n");
            ranks += strspn(text + ranks, " \t");
            if (ranks < line) {
                memcpy(out + used, text, ranks);
                used += ranks;
                memcpy(out + used, guard, strlen(guard));
                used += strlen(guard);
                out[used++] = ' ';
                text += ranks;
                line -= ranks;
            }
        }
        continued = line > 0 && text[line - 1] == '\\';
        memcpy(out + used, text, line);
        used += line;
        text += line;
        if (*text) {
            out[used++] = '\n';
            text++;
        }
    }
    out[used] = '\0';
    return out;
}
