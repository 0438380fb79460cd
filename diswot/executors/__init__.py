"""Workers: `named` finds an executor by its name, `dispatcher` hands it items in chunks and outlives the death of workers, `tasks` is what
runs in a worker; `local` and `jobs` are executors of our own, local processes and Slurm jobs."""
