// River: how a benchmarked queue's program talks to the harness is written in ../python/protocol.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"golang.org/x/sys/unix"
)

// Rounds of the cpu job's loop: about 20 ms.
const spin = 20_000_000

var (
	calls, total atomic.Int64
	openPipe     = sync.OnceValue(func() *os.File {
		pipe, err := os.OpenFile(os.Getenv("BENCH_PIPE"), os.O_WRONLY, 0)
		check(err)
		return pipe
	})
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// now is in nanoseconds of CLOCK_MONOTONIC, as in the other languages.
func now() int64 {
	var moment unix.Timespec
	check(unix.ClockGettime(unix.CLOCK_MONOTONIC, &moment))
	return moment.Nano()
}

func say(message map[string]any) {
	check(json.NewEncoder(os.Stdout).Encode(message))
}

func noop(number int64) {
	calls.Add(1)
	total.Add(number)
}

func cpu(number int64) {
	value := uint32(number)
	for range spin {
		value = (value*1103515245 + 12345) & 0x7FFFFFFF
	}
	if value > 0x7FFFFFFF {
		number++
	}
	noop(number)
}

type noopArgs struct {
	Number int64 `json:"number"`
}

func (noopArgs) Kind() string { return "noop" }

type stampArgs struct {
	Number int64 `json:"number"`
}

func (stampArgs) Kind() string { return "stamp" }

type cpuArgs struct {
	Number int64 `json:"number"`
}

func (cpuArgs) Kind() string { return "cpu" }

type noopWorker struct{ river.WorkerDefaults[noopArgs] }

func (*noopWorker) Work(_ context.Context, job *river.Job[noopArgs]) error {
	noop(job.Args.Number)
	return nil
}

type stampWorker struct{ river.WorkerDefaults[stampArgs] }

func (*stampWorker) Work(_ context.Context, job *river.Job[stampArgs]) error {
	_, err := fmt.Fprintf(openPipe(), "%d %d\n", job.Args.Number, now())
	return err
}

type cpuWorker struct{ river.WorkerDefaults[cpuArgs] }

func (*cpuWorker) Work(_ context.Context, job *river.Job[cpuArgs]) error {
	cpu(job.Args.Number)
	return nil
}

func args(kind string, number int64) river.JobArgs {
	switch kind {
	case "noop":
		return noopArgs{number}
	case "stamp":
		return stampArgs{number}
	default:
		return cpuArgs{number}
	}
}

// The settings of `river bench`, River's own benchmark, but for cpu jobs: two at a time.
func config(profile string) *river.Config {
	workers := river.NewWorkers()
	river.AddWorker(workers, &noopWorker{})
	river.AddWorker(workers, &stampWorker{})
	river.AddWorker(workers, &cpuWorker{})
	maxWorkers := 2_000
	if profile == "cpu" {
		maxWorkers = 2
	}
	return &river.Config{
		FetchCooldown:     2 * time.Millisecond,
		FetchPollInterval: 20 * time.Millisecond,
		Logger:            slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: maxWorkers}},
		Workers:           workers,
	}
}

type command struct {
	Do    string `json:"do"`
	Kind  string `json:"kind"`
	First int64  `json:"first"`
	Count int64  `json:"count"`
}

func serve(ctx context.Context, pool *pgxpool.Pool) {
	driver := riverpgxv5.New(pool)
	client, err := river.NewClient(driver, &river.Config{})
	check(err)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var asked command
		check(json.Unmarshal(lines.Bytes(), &asked))
		began := now()
		switch asked.Do {
		case "setup":
			migrator, err := rivermigrate.New(driver, nil)
			check(err)
			_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
			check(err)
		case "insert":
			jobs := make([]river.InsertManyParams, asked.Count)
			for index := range jobs {
				jobs[index].Args = args(asked.Kind, asked.First+int64(index))
			}
			_, err := client.InsertManyFast(ctx, jobs)
			check(err)
		default:
			_, err := client.Insert(ctx, args(asked.Kind, asked.First), nil)
			check(err)
		}
		say(map[string]any{"began": began, "ended": now()})
	}
}

func work(ctx context.Context, pool *pgxpool.Pool, profile string) {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	client, err := river.NewClient(riverpgxv5.New(pool), config(profile))
	check(err)
	check(client.Start(ctx))
	say(map[string]any{"ready": true})
	<-stop
	check(client.Stop(ctx))
	line := fmt.Sprintf("%d %d\n", calls.Load(), total.Load())
	check(os.WriteFile(filepath.Join(os.Getenv("BENCH_TALLY"), strconv.Itoa(os.Getpid())), []byte(line), 0o644))
}

func main() {
	if os.Args[1] == "bare" {
		count, err := strconv.Atoi(os.Args[2])
		check(err)
		cpu(0)
		began := now()
		for number := range count {
			cpu(int64(number))
		}
		say(map[string]any{"began": began, "ended": now()})
		return
	}
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("BENCH_URL"))
	check(err)
	defer pool.Close()
	if os.Args[1] == "client" {
		serve(ctx, pool)
	} else {
		work(ctx, pool, os.Args[2])
	}
}
