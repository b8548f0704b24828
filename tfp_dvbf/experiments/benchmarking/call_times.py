"""Times single calls of programs that generate trajectories and that filter streams."""

import statistics
import tempfile

from tfp_dvbf.experiments.benchmarking import agreement, processes

DATA = {"batch_size": 16, "num_steps": 50}  # What is generated, and from where streams start.
NUM_PARTICLES = 32  # Of a stream.
# Numbers of trajectories or streams, and how many draws or steps are timed in a round.
SIZES = {
    "generate": {1: 50, 64: 20, 1000: 5, 50000: 1},
    "filter_step": {1: 200, 64: 50, 4096: 3},
}

IMAGE_SIZES = {1: 100, 64: 5}


def streaming(args):
    """Times `filter_step` of an exported model for several numbers of streams."""
    for posterior in sorted({"innovation", "iaf"} & set(args.posteriors)):
        yield from inference(args, "streaming", "filter_step", posterior, NUM_PARTICLES)


def sampling(args):
    """Times the generation of trajectories of 50 steps in memory, for several numbers of them."""
    yield from inference(args, "sampling", "generate", "innovation", 1)


def images(args):
    """Times `filter_step` of an exported model of images, that of docs/pixels.md."""
    about = {"what": "images", "posterior": "innovation", "particles": NUM_PARTICLES}
    for threads in args.threads:
        with processes.started(processes.IMAGE_STEPS, threads, args.device) as workers:
            settings = {"num_particles": NUM_PARTICLES}
            about["threads"] = threads
            yield from each_size(workers, IMAGE_SIZES, settings, args.rounds, about)


def programs_of(way, peers):
    """Returns the programs that generate or filter: this package's, then those of `peers`."""
    own, *others = (
        processes.INFERENCE[name]._replace(way=way)
        for name in ["tensorflow", *peers]
        if name in processes.INFERENCE
    )
    compiled = [processes.COMPILED_STEP] if way == "filter_step" else []
    return [own, *compiled, *others]


def inference(args, what, way, posterior, num_particles):
    """Times a program of each package that generates or filters, single calls of it."""
    programs = programs_of(way, args.peers)
    for threads in args.threads:
        with tempfile.TemporaryDirectory() as folder:
            path = processes.write_reference(
                folder, threads, args.device, posterior=posterior, **DATA
            )
            about = {"what": what, "posterior": posterior, "particles": num_particles}
            about["threads"] = threads
            settings = {"path": path, "num_particles": num_particles}
            with processes.started(programs, threads, args.device) as workers:
                yield from each_size(workers, SIZES[way], settings, args.rounds, about)


def each_size(workers, sizes, settings, rounds, about):
    """Times workers that agree with the first of them, for each number of trajectories or streams.

    Args:
      workers: A `processes.Worker` for each program.
      sizes: How many calls are timed in a round, by the number of trajectories or streams.
      settings: What else all workers are told to prepare.
      rounds: Rounds of each size.
      about: What all rows hold.
    """
    for size, count in sizes.items():
        known = {
            program: worker.ask("prepare", size=size, **settings)
            for program, worker in workers.items()
        }
        first = next(iter(known.values()))
        for program, found in known.items():
            agreement.check_inference(program.name, found, first)
        yield single_calls(workers, rounds, count, {**about, "size": size})


def single_calls(workers, rounds, count, about):
    """Returns a row for each program, of the median of single calls and of what 99 % are below."""
    samples = {program: [] for program in workers}
    for index in range(rounds + 1):
        for program, worker in workers.items():
            seconds = worker.ask("run_each", count=count)["seconds"]
            if index:  # The first is to warm up.
                samples[program].append(seconds)
    medians = {
        program.name: [statistics.median(seconds) for seconds in found]
        for program, found in samples.items()
    }
    first = next(iter(medians.values()))
    rows = []
    for program, found in samples.items():
        times = sorted(1e3 * value for seconds in found for value in seconds)
        own = medians[program.name]
        row = {"program": program.name}
        row["ratio"] = statistics.median(a / b for a, b in zip(own, first))
        row["milliseconds"] = statistics.median(times)
        row["99 % below"] = times[min(len(times) - 1, int(0.99 * len(times)))]
        row["a second"] = 1e3 * about["size"] / row["milliseconds"]
        rows.append({**about, **row})
    return rows
