module slurmlet/tests/bench/admission

go 1.26.0
