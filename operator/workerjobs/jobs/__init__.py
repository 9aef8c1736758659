"""What a job type is, which ones come with WorkerJobs, and how users' own are found.

A child process imports only what the job at hand needs; nothing here imports psycopg, kopf or web3.
"""
