// What users see of the types, compiled with the module resolutions that they may have. Never run.
import {
  LtrpError,
  MaskedAutoencoder,
  PatchRanker,
  rankAgreement,
  readImages,
  selectors,
  selectPatches,
  Trainer,
  version,
  VisionTransformer,
  type ImageBatch,
  type LoadOptions,
  type PixelBatch,
  type Precision,
  type RankerConfig,
  type Ranking,
  type Selector,
} from 'ltrp';
import { expectTypeOf } from 'expect-type';

expectTypeOf(version).toEqualTypeOf<string>();
expectTypeOf<LtrpError['code']>().toExtend<string>();
expectTypeOf(LtrpError).instance.toExtend<Error>();
expectTypeOf(PatchRanker.load).parameters.toEqualTypeOf<[source: string, options?: LoadOptions]>();
expectTypeOf(PatchRanker.load).returns.resolves.toEqualTypeOf<PatchRanker>();
expectTypeOf<PatchRanker>().toHaveProperty('config').toEqualTypeOf<Readonly<RankerConfig>>();
expectTypeOf<PatchRanker>().toHaveProperty('precision').toEqualTypeOf<Precision>();
expectTypeOf<PatchRanker['rank']>().parameter(0).toEqualTypeOf<ImageBatch | PixelBatch>();
expectTypeOf<PatchRanker['rank']>().returns.resolves.toEqualTypeOf<Ranking>();
expectTypeOf<Ranking['logits']>().toExtend<Float32Array>();
expectTypeOf(readImages).returns.resolves.toEqualTypeOf<ImageBatch>();
expectTypeOf(selectPatches).returns.resolves.toHaveProperty('indices').toExtend<Int32Array>();
expectTypeOf(rankAgreement).returns.resolves.toHaveProperty('kendallTau').toExtend<Float64Array>();
expectTypeOf<MaskedAutoencoder['scoreMap']>().returns.toExtend<Promise<{ mean: Float32Array }>>();
expectTypeOf(Trainer.create).returns.toExtend<Promise<Trainer>>();
expectTypeOf(selectors.variance.score)
  .returns.resolves.toHaveProperty('scores')
  .toExtend<Float32Array>();
expectTypeOf(selectors['mine']).toEqualTypeOf<Selector | undefined>();

// Wrong uses are errors.
// @ts-expect-error -- models are made by load()
new PatchRanker();
// @ts-expect-error -- a precision that does not exist
await PatchRanker.load('tiny', { precision: 'int4' });
// @ts-expect-error -- size is required
await readImages(['a.jpg'], {});

await using ranker = await PatchRanker.load('tiny');
const signal = AbortSignal.timeout(1000);
await ranker.rank(await readImages(['a.jpg', new Uint8Array(3)], { size: [224, 224], signal }));

// A selector of one's own, as an object and by name.
const mine: Selector = {
  score: async (images, options) => {
    const { scores, shape } = await selectors.variance.score(images, options);
    return { scores: Float64Array.from(scores), shape };
  },
};
await using vit = await VisionTransformer.load('vit.pth');
const images = await readImages(['a.jpg'], { size: 224 });
await vit.classify(images, { keepRatio: 0.5, selector: mine });
await vit.classify(images, { keepRatio: 0.5, selector: 'mine', selectorModel: ranker });
await vit.embed(images, { keep: [Int32Array.of(1, 2)] });
// @ts-expect-error -- no method score
await vit.classify(images, { keepRatio: 0.5, selector: {} });
