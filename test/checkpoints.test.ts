/** Checkpoints through the public API and the command: what is assumed is said, and what is written is nobody else's. */
import { execFileSync } from 'node:child_process';
import { cp, mkdir, open, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { convertCheckpoint, MaskedAutoencoder, PatchRanker, type LtrpError } from '../lib/index.js';
import type { NativeTensor } from '../lib/native/binding.js';
import { ltrp } from './support/command.js';
import { smallMae, writeRanker } from './support/models.js';
import { temporaryFolder } from './support/paths.js';
import { readWeights, sameBytes, writeTensors } from './support/weights.js';

/** smallMae's weights under the official names, with `prefix` in front, and the heads that the file itself cannot tell. */
async function writeOfficial(
  folder: string,
  prefix: string,
  more: Record<string, NativeTensor> = {},
): Promise<string> {
  const { tensors } = await readWeights(smallMae, 'mae');
  const named = Object.entries(tensors).map(([name, tensor]) => [prefix + name, tensor] as const);
  const path = join(folder, 'official.safetensors');
  await writeTensors(path, { ...Object.fromEntries(named), ...more });
  await writeFile(join(folder, 'config.json'), '{"num_heads": 3, "decoder_num_heads": 4}');
  return path;
}

test('nothing says whether pixels are normalised: that is said, and an option says it', async (t) => {
  const folder = await temporaryFolder(t);
  const path = await writeOfficial(folder, 'module.');
  const assumed = await MaskedAutoencoder.load(path);
  t.false(assumed.config.normalizedTarget);
  t.regex(assumed.notes.join('\n'), /norm_pix_loss.*normalizedTarget says otherwise/);
  t.true(Object.isFrozen(assumed.notes));
  const told = await MaskedAutoencoder.load(path, { normalizedTarget: true });
  t.true(told.config.normalizedTarget);
  t.notRegex(told.notes.join('\n'), /norm_pix_loss/);
  assumed.dispose();
  told.dispose();

  const output = join(folder, 'out.safetensors');
  const said = await ltrp(['convert', path, output, '--kind', 'mae']);
  t.is(said.code, 0, said.stderr);
  t.regex(said.stderr, /^note: .*--normalized-target says otherwise/m);
  for (const [option, value] of [
    ['--normalized-target', true],
    ['--no-normalized-target', false],
  ] as const) {
    const args = ['convert', path, output, '--kind', 'mae', '--force', '--json', option];
    const outcome = await ltrp(args);
    t.is(outcome.code, 0, outcome.stderr);
    const { config, notes } = JSON.parse(outcome.stdout) as {
      config: { normalizedTarget: boolean };
      notes: string[];
    };
    t.is(config.normalizedTarget, value);
    t.deepEqual(notes, []);
    const written = (await readWeights(output, 'mae')).config as { normalizedTarget: boolean };
    t.is(written.normalizedTarget, value);
  }
  await t.throwsAsync(
    convertCheckpoint('tiny', output, {
      kind: 'ranker',
      overwrite: true,
      normalizedTarget: true,
    }),
    { message: /normalizedTarget is for kind 'mae'/ },
  );
});

test('of several models the ordinary one, or the one that is named', async (t) => {
  const folder = await temporaryFolder(t);
  const { tensors } = await readWeights(smallMae, 'mae');
  const average = Object.fromEntries(
    Object.entries(tensors).map(([name, { data, shape }]) => [
      `ema.module.${name}`,
      { data: data.map((value) => value / 2), shape },
    ]),
  );
  const path = await writeOfficial(folder, 'model.', average);
  const output = join(folder, 'out.safetensors');
  const ordinary = await convertCheckpoint(path, output, { kind: 'mae' });
  t.regex(ordinary.notes.join('\n'), /'model' is taken.*\(weights: 'ema'\)/);
  t.is(
    (await readWeights(output, 'mae')).tensors['norm.bias']!.data[1],
    tensors['norm.bias']!.data[1],
  );
  const said = await ltrp(['convert', path, output, '--kind', 'mae', '--force']);
  t.regex(said.stderr, /--weights 'ema'/);
  const args = ['convert', path, output, '--kind', 'mae', '--force', '--weights', 'ema'];
  const named = await ltrp(args);
  t.is(named.code, 0, named.stderr);
  t.is(
    (await readWeights(output, 'mae')).tensors['cls_token']!.data[1],
    tensors['cls_token']!.data[1]! / 2,
  );
  const wrong = await ltrp(['convert', path, output, '--kind', 'mae', '--force', '--weights', 'x']);
  t.is(wrong.code, 1);
  t.regex(wrong.stderr, /no weights named 'x'; it has 'ema', 'model'/);
});

test('what is not there, and looks like the name of a model on a hub or like an address', async (t) => {
  const advice = async (source: string): Promise<string> =>
    (await t.throwsAsync<LtrpError>(PatchRanker.load(source), { code: 'ERR_LTRP_FILE_NOT_FOUND' }))
      .message;
  t.regex(
    await advice('facebook/vit-mae-base'),
    /load 'hf:facebook\/vit-mae-base', or run `npx ltrp models fetch hf:facebook\/vit-mae-base`/,
  );
  t.regex(await advice('some-user/my_model.v2'), /Hugging Face|safetensors/);
  t.regex(await advice('https://example.com/model.pth'), /this is an address/);
  t.regex(await advice('models/absent.pth'), /give a \.safetensors or \.pth file/);
  t.true((await advice('x'.repeat(4000))).length < 500);
});

test('two conversions to one new file: one is refused, and the file is whole', async (t) => {
  const folder = await temporaryFolder(t);
  const other = await writeRanker(join(folder, 'ranker.safetensors'), 'token');
  for (const output of ['out.safetensors', 'out.onnx']) {
    const file = join(folder, output);
    const results = await Promise.allSettled(
      ['tiny', other, 'tiny', other].map((input) =>
        convertCheckpoint(input, file, { kind: 'ranker' }),
      ),
    );
    const done = results.filter(({ status }) => status === 'fulfilled');
    t.is(done.length, 1, output);
    for (const result of results) {
      if (result.status === 'fulfilled') continue;
      const { code } = result.reason as LtrpError;
      t.true(['ERR_LTRP_FILE_EXISTS', 'ERR_LTRP_FILE_WRITE'].includes(code), code);
    }
    const winner = ['tiny', other][results.findIndex(({ status }) => status === 'fulfilled') % 2]!;
    const again = join(folder, `again-${output}`);
    await convertCheckpoint(winner, again, { kind: 'ranker' });
    t.true(await sameBytes(file, again), 'what is there is what the one that ended well wrote');
  }
  // With their data beside them, a model and the data of another never stand together.
  const pair = { kind: 'ranker', externalDataAbove: 0, overwrite: true } as const;
  const file = join(folder, 'pair.onnx');
  await Promise.all(
    ['tiny', other, 'tiny', other].map((input) => convertCheckpoint(input, file, pair)),
  );
  const candidates = await Promise.all(
    ['tiny', other].map(async (input, i) => {
      await mkdir(join(folder, `${i}`));
      const whole = join(folder, `${i}`, 'pair.onnx');
      await convertCheckpoint(input, whole, pair);
      return (await sameBytes(whole, file)) && (await sameBytes(`${whole}.data`, `${file}.data`));
    }),
  );
  t.is(candidates.filter(Boolean).length, 1);
  t.deepEqual(
    (await readdir(folder)).filter((name) => /tmp|partial|lock/.test(name)),
    [],
  );
});

test('pipes, devices and links as outputs', async (t) => {
  const folder = await temporaryFolder(t);
  for (const extension of ['safetensors', 'onnx']) {
    const pipe = join(folder, `pipe.${extension}`);
    execFileSync('mkfifo', [pipe]);
    const device = join(folder, `null.${extension}`);
    await symlink('/dev/null', device);
    for (const [path, kind] of [
      [pipe, /a named pipe/],
      [device, /a device/],
    ] as const) {
      await t.throwsAsync(convertCheckpoint('tiny', path, { kind: 'ranker', overwrite: true }), {
        code: 'ERR_LTRP_FILE_WRITE',
        message: kind,
      });
    }
    t.true((await stat(pipe)).isFIFO());
    t.true((await stat('/dev/null')).isCharacterDevice());
    const link = join(folder, `link.${extension}`);
    await symlink(`target.${extension}`, link);
    await t.throwsAsync(convertCheckpoint('tiny', link, { kind: 'ranker' }), {
      code: 'ERR_LTRP_FILE_EXISTS',
    });
    await convertCheckpoint('tiny', link, { kind: 'ranker', overwrite: true });
    t.true((await stat(join(folder, `target.${extension}`))).isFile());
  }
});

test('a large file is refused by its header, and a load is aborted at any size', async (t) => {
  const folder = await temporaryFolder(t);
  // Sparse files: they take no room on the disk, and reading them takes as long as reading others.
  const write = async (name: string, tensors: Record<string, number[]>): Promise<string> => {
    let end = 0;
    const header = Object.entries(tensors).map(([key, shape]) => {
      const begin = end;
      end += 4 * shape.reduce((product, size) => product * size, 1);
      return [key, { dtype: 'F32', shape, data_offsets: [begin, end] }];
    });
    const text = Buffer.from(JSON.stringify(Object.fromEntries(header)));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    const path = join(folder, name);
    const file = await open(path, 'w');
    await file.write(Buffer.concat([length, text]));
    await file.truncate(8 + text.length + end);
    await file.close();
    return path;
  };
  const foreign = await write('foreign.safetensors', { 'lm_head.weight': [2 ** 30, 5] });
  const before = process.memoryUsage.rss();
  const error = await t.throwsAsync<LtrpError>(PatchRanker.load(foreign));
  t.is(error.code, 'ERR_LTRP_CHECKPOINT_CONTENT');
  t.regex(error.message, /'lm_head\.weight'/);
  t.true(process.memoryUsage.rss() - before < 2 ** 28);

  const [dim, mlp] = [8192, 32768];
  const block = (i: number): Record<string, number[]> => ({
    [`blocks.${i}.norm1.weight`]: [dim],
    [`blocks.${i}.norm1.bias`]: [dim],
    [`blocks.${i}.attn.qkv.weight`]: [3 * dim, dim],
    [`blocks.${i}.attn.qkv.bias`]: [3 * dim],
    [`blocks.${i}.attn.proj.weight`]: [dim, dim],
    [`blocks.${i}.attn.proj.bias`]: [dim],
    [`blocks.${i}.norm2.weight`]: [dim],
    [`blocks.${i}.norm2.bias`]: [dim],
    [`blocks.${i}.mlp.fc1.weight`]: [mlp, dim],
    [`blocks.${i}.mlp.fc1.bias`]: [mlp],
    [`blocks.${i}.mlp.fc2.weight`]: [dim, mlp],
    [`blocks.${i}.mlp.fc2.bias`]: [dim],
  });
  const large = await write('large.safetensors', {
    cls_token: [1, 1, dim],
    pos_embed: [1, 5, dim],
    'patch_embed.proj.weight': [dim, 3, 16, 16],
    'patch_embed.proj.bias': [dim],
    ...block(0),
    ...block(1),
    'norm.weight': [dim],
    'norm.bias': [dim],
    'head.weight': [1, dim],
    'head.bias': [1],
  });
  const controller = new AbortController();
  const load = PatchRanker.load(large, { signal: controller.signal });
  await new Promise((resolve) => setTimeout(resolve, 300));
  const began = performance.now();
  controller.abort();
  await t.throwsAsync(load, { any: true, name: 'AbortError' });
  const took = performance.now() - began;
  t.log(`the abort was answered after ${took.toFixed(0)} ms`);
  t.true(took < 1000, `${took} ms`);
});

test('a training run that was stopped is a model: its checkpoint and its folder', async (t) => {
  const folder = await temporaryFolder(t);
  const { Trainer } = await import('../lib/index.js');
  const { oneStep } = await import('./support/lifecycle-models.js');
  const { config } = await readWeights(smallMae, 'mae');
  const trainer = await Trainer.create({
    kind: 'pretrain',
    model: config as never,
    ...oneStep,
    seed: 5,
  });
  const run = join(folder, 'run');
  await mkdir(run);
  await trainer.save(join(run, 'checkpoint-000000002.safetensors'));
  await trainer.exportModel(join(folder, 'expected.safetensors'), 'float32');
  trainer.dispose();
  await cp(
    join(run, 'checkpoint-000000002.safetensors'),
    join(run, 'checkpoint-000000001.safetensors'),
  );
  await writeFile(join(run, 'run.json'), '{}');
  const inputs = [join(run, 'checkpoint-000000002.safetensors'), run];
  for (const [i, input] of inputs.entries()) {
    const output = join(folder, `model-${i}.safetensors`);
    const outcome = await ltrp(['convert', input, output, '--kind', 'mae']);
    t.is(outcome.code, 0, outcome.stderr);
    t.regex(outcome.stderr, /note: .*after 0 steps/);
    t.true(await sameBytes(output, join(folder, 'expected.safetensors')));
  }
  const wrong = await ltrp(['convert', run, join(folder, 'x.safetensors'), '--kind', 'ranker']);
  t.is(wrong.code, 1);
  t.regex(wrong.stderr, /holds an autoencoder, not a ranker/);
  t.is((await readFile(join(folder, 'expected.safetensors'))).length > 0, true);
});
