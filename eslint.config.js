import js from '@eslint/js';
import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['dist/', 'build/', 'out/', 'node_modules/', 'prebuilds/', 'native/'] },
  js.configs.recommended,
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked, tseslint.configs.stylisticTypeChecked],
    languageOptions: {
      parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      // Numbers in messages are wanted; anything else that turns into "[object Object]" is not.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // `env['NAME']` is how index signatures are read.
      '@typescript-eslint/dot-notation': 'off',
      // `loadCore` and its like answer `undefined` options by their documented default.
      '@typescript-eslint/consistent-type-definitions': ['error', 'interface'],
      // It asks for `!`, which no-non-null-assertion forbids; `as T` after an index that is in range says the same.
      '@typescript-eslint/non-nullable-type-assertion-style': 'off',
      // A callback of one call needs no braces to say that it returns nothing.
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      // TypeScript itself refuses unused names; a leading underscore says that one is meant.
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
    },
  },
  {
    files: ['test/**/*.ts'],
    rules: {
      // In a test a failed assertion is the message.
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
  {
    files: ['**/*.mjs', '**/*.js', '**/*.cjs'],
    languageOptions: {
      globals: {
        console: 'readonly',
        process: 'readonly',
        performance: 'readonly',
        Buffer: 'readonly',
        URL: 'readonly',
        fetch: 'readonly',
        setTimeout: 'readonly',
        clearTimeout: 'readonly',
        setInterval: 'readonly',
        clearInterval: 'readonly',
        setImmediate: 'readonly',
        structuredClone: 'readonly',
        AbortController: 'readonly',
        AbortSignal: 'readonly',
        TextDecoder: 'readonly',
        TextEncoder: 'readonly',
      },
    },
  },
  {
    files: ['examples/browser/page.js'],
    languageOptions: {
      globals: {
        addEventListener: 'readonly',
        createImageBitmap: 'readonly',
        crossOriginIsolated: 'readonly',
        document: 'readonly',
        navigator: 'readonly',
        OffscreenCanvas: 'readonly',
      },
    },
  },
);
