/** The teacher, with what its rounds have taken over all runs: rows share maps, and a run goes on where another ended. */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Picture } from '../evaluate/pictures.js';
import { CachedTeacher, type TeacherMaps } from '../evaluate/teacher-maps.js';
import type { MapSettings } from './rows.js';
import { digestOf, type Study } from './study.js';

type Spent = CachedTeacher['spent'];

export class TimedTeacher {
  readonly #before: Spent;

  private constructor(
    readonly teacher: CachedTeacher,
    readonly rounds: number,
    readonly file: string,
  ) {
    this.#before = existsSync(file)
      ? (JSON.parse(readFileSync(file, 'utf8')) as Spent)
      : { rounds: 0, seconds: 0 };
  }

  static async open(
    { rounds, ...settings }: MapSettings,
    { teacher: { source, digest }, out }: Study,
  ): Promise<TimedTeacher> {
    // Maps are made in two halves; a single round is one of them.
    const teacher = await CachedTeacher.open(source, [Math.max(2, rounds)], settings, out);
    const file = join(out, 'teacher-maps', `seconds-${digestOf(digest, settings)}.json`);
    return new TimedTeacher(teacher, rounds, file);
  }

  /** The map of all rounds, and what it was made of. */
  async maps(picture: Picture): Promise<{ map: Float64Array; maps: TeacherMaps }> {
    const before = this.teacher.spent.rounds;
    const maps = await this.teacher.maps(picture);
    if (this.teacher.spent.rounds > before) {
      writeFileSync(`${this.file}.part`, JSON.stringify(this.#sum()));
      renameSync(`${this.file}.part`, this.file);
    }
    const map = this.rounds === 1 ? maps.halves.get(2)?.[0] : maps.mean.get(this.rounds);
    if (map === undefined) throw new Error(`There is no map of ${this.rounds} rounds.`);
    return { map, maps };
  }

  get secondsPerPicture(): number {
    const { rounds, seconds } = this.#sum();
    return (this.rounds * seconds) / rounds;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.teacher.dispose();
  }

  #sum(): Spent {
    return {
      rounds: this.#before.rounds + this.teacher.spent.rounds,
      seconds: this.#before.seconds + this.teacher.spent.seconds,
    };
  }
}
