/** What `ltrp libtorch install` may fetch: one LibTorch, by platform. */

export interface LibtorchRelease {
  readonly version: string;
  readonly variant: 'cpu';
  /** Arguments that make pip pick one particular wheel whatever Python it runs under. */
  readonly pip: {
    readonly requirement: string;
    readonly platform: string;
    readonly pythonVersion: string;
  };
  /** Wheels of known content, by file name. */
  readonly wheelSha256: Readonly<Record<string, string>>;
  /** Official LibTorch archive; null where PyTorch publishes none. */
  readonly archiveUrl: string | null;
}

const version = '2.13.0';

const releases: Readonly<Record<string, LibtorchRelease>> = {
  'linux-x64': {
    version,
    variant: 'cpu',
    // The local version "+cpu" keeps pip from fetching PyPI's CUDA build, which is several times the size.
    pip: {
      requirement: `torch==${version}+cpu`,
      platform: 'manylinux_2_28_x86_64',
      pythonVersion: '3.11',
    },
    wheelSha256: {
      'torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl':
        '6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b',
    },
    archiveUrl: `https://download.pytorch.org/libtorch/cpu/libtorch-shared-with-deps-${version}%2Bcpu.zip`,
  },
  'linux-arm64': {
    version,
    variant: 'cpu',
    pip: {
      requirement: `torch==${version}+cpu`,
      platform: 'manylinux_2_28_aarch64',
      pythonVersion: '3.11',
    },
    wheelSha256: {},
    archiveUrl: null,
  },
  'darwin-arm64': {
    version,
    variant: 'cpu',
    pip: {
      requirement: `torch==${version}`,
      platform: 'macosx_14_0_arm64',
      pythonVersion: '3.11',
    },
    wheelSha256: {},
    archiveUrl: `https://download.pytorch.org/libtorch/cpu/libtorch-macos-arm64-${version}.zip`,
  },
};

/** PyTorch's own index, asked when the configured one has no such wheel. */
export const pytorchIndex = 'https://download.pytorch.org/whl/cpu';

export function releaseFor(platform: string, arch: string): LibtorchRelease | null {
  return releases[`${platform}-${arch}`] ?? null;
}
