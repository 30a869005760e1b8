// XXH3's inner loop with general registers. NEON takes about as long on silicon (an in-order core has one multiplier either
// way) and longer in an emulator.
//
// void purgatory_xxh3(uint64_t acc[8] /* x0 */, const uint8_t blocks[][16][64] /* x1 */, size_t count /* x2 */,
//                     const uint64_t secret[24] /* x3 */)
//
//   x4..x11 accumulators   x12..x17 scratch   x22 end of the secret's stripes   x20 where in the secret   x21 PRIME32_1

.pushsection .text.purgatory_xxh3, "ax", %progbits

// Two lanes: the data goes to the neighbour, the product of its two halves under the key to the lane itself.
.macro XXH_LANES offset, a, b
	ldp	x12, x13, [x1, #\offset]
	ldp	x14, x15, [x20, #\offset]
	eor	x14, x14, x12
	eor	x15, x15, x13
	add	\b, \b, x12
	add	\a, \a, x13
	lsr	x16, x14, #32
	lsr	x17, x15, #32
	umaddl	\a, w14, w16, \a
	umaddl	\b, w15, w17, \b
.endm

.macro XXH_SCRAMBLE offset, a, b
	ldp	x12, x13, [x20, #\offset]
	eor	\a, \a, \a, lsr #47
	eor	\b, \b, \b, lsr #47
	eor	\a, \a, x12
	eor	\b, \b, x13
	mul	\a, \a, x21
	mul	\b, \b, x21
.endm

.globl purgatory_xxh3
.p2align 4
purgatory_xxh3:
	cbz	x2, 3f
	ldp	x4, x5, [x0]
	ldp	x6, x7, [x0, #16]
	ldp	x8, x9, [x0, #32]
	ldp	x10, x11, [x0, #48]
	add	x22, x3, #128
	mov	w21, #0x79b1
	movk	w21, #0x9e37, lsl #16
1:	mov	x20, x3
2:	prfm	pldl1strm, [x1, #1024]
	XXH_LANES 0, x4, x5
	XXH_LANES 16, x6, x7
	XXH_LANES 32, x8, x9
	XXH_LANES 48, x10, x11
	add	x1, x1, #64
	add	x20, x20, #8
	cmp	x20, x22
	b.ne	2b
	XXH_SCRAMBLE 0, x4, x5
	XXH_SCRAMBLE 16, x6, x7
	XXH_SCRAMBLE 32, x8, x9
	XXH_SCRAMBLE 48, x10, x11
	subs	x2, x2, #1
	b.ne	1b
	stp	x4, x5, [x0]
	stp	x6, x7, [x0, #16]
	stp	x8, x9, [x0, #32]
	stp	x10, x11, [x0, #48]
3:	ret
.popsection
