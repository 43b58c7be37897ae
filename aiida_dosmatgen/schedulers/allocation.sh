#!/bin/bash
# Many small jobs in one Slurm allocation. The scheduler plugin calls it on the login node (submit, list, cancel), and the
# allocation itself is a batch job that does nothing but "run". Jobs are files that wait in a folder; whoever moves one has it.
set -u
root=$HOME/.dosmatgen-allocations

queue() { # my jobs: number, state, name
    squeue --noheader --user "$(id -un)" --format '%i %T %j'
}

among() { # QUEUE NUMBER: whether a job is there
    [[ " $(awk '{print $1}' <<< "$1" | tr '\n' ' ')" == *" $2 "* ]]
}

start() { # SPOOL QUEUE: ask for an allocation, unless there is one; what sbatch says of it if it is refused
    local name=dosmatgen-${1##*/}
    [[ " $(awk '{print $3}' <<< "$2" | tr '\n' ' ')" == *" $name "* ]] && return
    # two that are asked for at once come one after the other, and the second finds nothing to do
    sbatch --parsable --job-name="$name" --dependency=singleton --no-requeue --output="$1/log-%j" "$1/allocation" 2>&1 > /dev/null
}

later() { # MESSAGE: whether sbatch refuses for now only, as the user has as many jobs in the queue as are allowed
    [[ $1 == *SubmitJob*Limit* ]]
}

submit() { # SCRIPT, in its working directory
    local header spool id now said=
    header=$(grep '^#SBATCH ' "$1")
    spool=$root/$(sha256sum <<< "$header" | cut -c1-12)
    id=${spool##*/}-$(date +%s%N)-$$
    mkdir -p "$spool/waiting" "$spool/running" || exit 1
    printf '#!/bin/bash\n%s\nexec bash %q run %q\n' "$header" "$root/allocation.sh" "$spool" > "$spool/$id" &&
        mv "$spool/$id" "$spool/allocation" &&
        { echo "$PWD/$1"; sed -n 's/^#STEP //p' "$1"; } > "$spool/$id" &&
        mv "$spool/$id" "$spool/waiting/$id" || exit 1
    if ! { now=$(queue) && said=$(start "$spool" "$now"); } && ! later "$said"; then # else "list" asks again
        rm -f "$spool/waiting/$id"
        echo "$said" >&2
        exit 1
    fi
    echo "$id"
}

list() {
    local now spool job folder any said
    now=$(queue) || exit 1
    shopt -s nullglob
    for spool in "$root"/*/; do
        spool=${spool%/}
        any=
        for job in "$spool"/waiting/*; do # before those that run: one that is moved meanwhile is seen twice, not never
            echo "${job##*/} PENDING"
            any=1
        done
        for folder in "$spool"/running/*; do
            if ! among "$now" "${folder##*/}" && now=$(queue) && ! among "$now" "${folder##*/}"; then
                rm -rf "$folder" # the allocation has ended, and these with it; one that has just begun is in the second list
                continue
            fi
            for job in "$folder"/*; do
                echo "${job##*/} RUNNING"
            done
        done
        if [[ $any ]]; then
            said=$(start "$spool" "$now") || later "$said" || echo "$said" >&2
        fi
    done
    echo end
}

cancel() { # ID
    local spool=$root/${1%%-*} step
    rm -f "$spool/waiting/$1"
    for step in $(squeue --steps --noheader --user "$(id -un)" --format '%i %j' | awk -v id="$1" '$2 == id {print $1}'); do
        scancel "$step"
    done
}

step() { # FILE SCRIPT CPUS SECONDS STDOUT STDERR
    cd "$(dirname "$2")" || return
    # what the script starts is not to take itself for a part of the allocation: mpirun would count its slots wrongly
    srun --exact --nodes=1 --ntasks=1 --cpus-per-task="$3" --mem=0 --job-name="${1##*/}" --output="$5" --error="$6" \
        bash -c 'unset "${!SLURM_@}"; exec timeout --kill-after=30 "$1" bash "$2"' step "$4" "$2" < /dev/null
    if [[ $? == 124 ]]; then
        echo "slurmstepd: error: *** STEP ${1##*/} CANCELLED AT $(date +%FT%T) DUE TO TIME LIMIT ***" >> "$6"
    fi
    rm -f "$1"
}

mine() { # FORMAT: what Slurm says of this allocation
    local said
    said=$(squeue --noheader --job "$SLURM_JOB_ID" --format "$1") && [[ $said ]] && echo "$said"
}

run() { # SPOOL
    local mine=$1/running/$SLURM_JOB_ID free total end=$((1 << 62)) asked= now idle=120 fresh=1 busy=$SECONDS closing= pid job lines
    local -A used=()
    until total=$(mine %C); do
        sleep 5
    done
    free=$total
    mkdir -p "$mine"
    shopt -s nullglob
    while :; do
        if ((${asked:--60} + 60 <= SECONDS)); then # its time limit may be changed while it runs
            asked=$SECONDS
            now=$(mine %e) && now=$(date -d "$now" +%s 2> /dev/null) && end=$now # without limit it is not a date
        fi
        closing=
        for pid in "${!used[@]}"; do
            if ! kill -0 "$pid" 2> /dev/null; then
                free=$((free + used[$pid]))
                unset "used[$pid]"
                busy=$SECONDS
            fi
        done
        for job in "$1"/waiting/*; do # oldest first, and none overtakes
            mapfile -t lines < "$job"
            local script=${lines[0]-} cpus seconds out err
            read -r cpus seconds out err <<< "${lines[1]-}"
            ((cpus <= free || free == total)) || break
            # it has to end in time; one that never could is begun all the same, in a fresh allocation
            if ((! fresh && $(date +%s) + seconds > end)); then
                closing=1
                break
            fi
            mv "$job" "$mine/" 2> /dev/null || continue
            step "$mine/${job##*/}" "$script" "$cpus" "$seconds" "$out" "$err" &
            used[$!]=$cpus
            free=$((free - cpus))
            fresh=0
        done
        if ((${#used[@]} == 0)) && { [[ $closing ]] || ((SECONDS - busy > idle)); }; then
            break
        fi
        sleep 1
    done
}

"$@"
