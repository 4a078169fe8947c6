/** What `ltrp libtorch install` may fetch: one LibTorch a platform and variant. */
import { nvidiaPackages, type NvidiaPackage } from './nvidia-packages.js';

/** Where pip is to look, in this order. `index: null` is the configured one. */
export interface WheelSource {
  readonly index: string | null;
  readonly requirement: string;
}

export interface LibtorchRelease {
  readonly version: string;
  /** `cpu`, or `cu` and a CUDA version without its dot. */
  readonly variant: string;
  /** Description of the download for people: `CPU, about 200 MB`. */
  readonly description: string;
  /** Download and unpacked copy together, without `nvidia`, with room to spare. */
  readonly bytesNeeded: number;
  readonly pip: {
    readonly sources: readonly WheelSource[];
    /** These make pip pick one particular wheel whatever Python it runs under. */
    readonly platform: string;
    readonly pythonVersion: string;
  };
  /** Wheels of known content, by file name. */
  readonly wheelSha256: Readonly<Record<string, string>>;
  /** Official LibTorch archive; null where PyTorch publishes none. */
  readonly archiveUrl: string | null;
  /** Packages that the wheel needs at run time and does not contain. */
  readonly nvidia: readonly NvidiaPackage[];
}

const pythonVersion = '3.11';
const version = '2.13.0';
const cudaVersion = '2.14.1';
const cpuIndex = 'https://download.pytorch.org/whl/cpu';

/** The CPU build, from the configured index and, when that has no such wheel, from PyTorch's own. */
function cpuRelease(
  requirement: string,
  platform: string,
  more: Pick<LibtorchRelease, 'wheelSha256' | 'archiveUrl'>,
): LibtorchRelease {
  const sources = [null, cpuIndex].map((index) => ({ index, requirement }));
  return {
    version,
    variant: 'cpu',
    description: 'CPU, about 200 MB',
    bytesNeeded: 1_500_000_000,
    pip: { sources, platform, pythonVersion },
    nvidia: [],
    ...more,
  };
}

const releases: Readonly<Record<string, LibtorchRelease>> = {
  // The local version "+cpu" keeps pip from fetching PyPI's CUDA build, which is several times the size.
  'linux-x64': cpuRelease(`torch==${version}+cpu`, 'manylinux_2_28_x86_64', {
    wheelSha256: {
      'torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl':
        '6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b',
    },
    archiveUrl: `https://download.pytorch.org/libtorch/cpu/libtorch-shared-with-deps-${version}%2Bcpu.zip`,
  }),
  'linux-arm64': cpuRelease(`torch==${version}+cpu`, 'manylinux_2_28_aarch64', {
    wheelSha256: {},
    archiveUrl: null,
  }),
  'darwin-arm64': cpuRelease(`torch==${version}`, 'macosx_14_0_arm64', {
    wheelSha256: {},
    archiveUrl: `https://download.pytorch.org/libtorch/cpu/libtorch-macos-arm64-${version}.zip`,
  }),
};

const cudaReleases: Readonly<Record<string, LibtorchRelease>> = {
  'linux-x64': {
    version: cudaVersion,
    variant: 'cu130',
    description: 'CUDA 13.0, about 560 MB',
    bytesNeeded: 2_300_000_000,
    pip: {
      // PyPI's own build for Linux is the one for CUDA 13.0; PyTorch's index says so in the version.
      sources: [
        { index: null, requirement: `torch==${cudaVersion}` },
        {
          index: 'https://download.pytorch.org/whl/cu130',
          requirement: `torch==${cudaVersion}+cu130`,
        },
      ],
      platform: 'manylinux_2_28_x86_64',
      pythonVersion,
    },
    wheelSha256: {
      'torch-2.14.1-cp311-cp311-manylinux_2_28_x86_64.whl':
        '305a61f61f35f128579f299c5bd33d475f6a01c6307336139632e30856c4854d',
    },
    archiveUrl: `https://download.pytorch.org/libtorch/cu130/libtorch-shared-with-deps-${cudaVersion}%2Bcu130.zip`,
    nvidia: nvidiaPackages,
  },
};

/** The release for a platform, or null. */
export function releaseFor(
  platform: string,
  arch: string,
  device: 'cpu' | 'cuda' = 'cpu',
): LibtorchRelease | null {
  return (device === 'cuda' ? cudaReleases : releases)[`${platform}-${arch}`] ?? null;
}
