// The first instructions of an arm64 Image (Documentation/arch/arm64/booting.rst): MMU off, no stack.
// x0 is the device tree. Everything worth reporting is saved before it is changed; x9 and x10 are lost.

	.section .text.entry, "ax"
	.global	_start
_start:
	b	1f			// code0
	.long	0			// code1
	.quad	0, 0, 0, 0, 0, 0, 0	// the rest of the header: image::Arm64Image writes it
	.quad	0, 0, 0, 0		// the record of image::RECORD

1:	adr	x9, state
	stp	x0, x1, [x9]
	stp	x2, x3, [x9, #16]
	mov	x10, sp
	str	x10, [x9, #32]
	adr	x10, _start
	str	x10, [x9, #40]
	mrs	x10, CurrentEL
	str	x10, [x9, #48]
	mrs	x10, DAIF
	str	x10, [x9, #56]
	mrs	x10, SPSel
	str	x10, [x9, #64]
	mrs	x10, CNTFRQ_EL0
	str	x10, [x9, #72]
	mrs	x10, MIDR_EL1
	str	x10, [x9, #80]
	mrs	x10, ID_AA64MMFR0_EL1
	str	x10, [x9, #88]
	msr	DAIFSet, #15

	mrs	x10, CurrentEL
	cmp	x10, #8
	b.eq	2f

	mrs	x10, SCTLR_EL1
	str	x10, [x9, #96]
	mrs	x10, VBAR_EL1
	str	x10, [x9, #104]
	mrs	x10, TCR_EL1
	str	x10, [x9, #112]
	mrs	x10, CPACR_EL1
	str	x10, [x9, #120]
	str	xzr, [x9, #128]
	str	xzr, [x9, #136]
	str	xzr, [x9, #144]
	adr	x10, vectors
	msr	VBAR_EL1, x10
	// The compiler may use vector registers.
	mov	x10, #3 << 20		// FPEN: no trap
	msr	CPACR_EL1, x10
	b	4f

	// Plain _EL2 names work with and without E2H.
2:	mrs	x10, SCTLR_EL2
	str	x10, [x9, #96]
	mrs	x10, VBAR_EL2
	str	x10, [x9, #104]
	mrs	x10, TCR_EL2
	str	x10, [x9, #112]
	mrs	x10, CPTR_EL2
	str	x10, [x9, #120]
	mrs	x10, CNTVOFF_EL2
	str	x10, [x9, #136]
	mrs	x10, CNTHCTL_EL2
	str	x10, [x9, #144]
	adr	x10, vectors
	msr	VBAR_EL2, x10
	mrs	x10, HCR_EL2
	str	x10, [x9, #128]
	tbnz	x10, #34, 3f		// E2H
	mov	x10, #0x33ff		// RES1 bits, TFP clear: no trap
	msr	CPTR_EL2, x10
	b	4f
3:	mov	x10, #3 << 20		// FPEN, as in CPACR_EL1
	msr	CPTR_EL2, x10

4:	isb
	msr	SPSel, #1
	adr	x10, stack_top
	mov	sp, x10
	mov	x0, x9
	mov	x29, #0
	mov	x30, #0
	bl	entry_main
	b	.

	.balign	2048			// of the load address too: it is a multiple of 2 MiB
vectors:
	.set	number, 0
	.rept	16
	.balign	128
	mov	x0, #number
	b	5f
	.set	number, number + 1
	.endr
	.balign	128
5:	adr	x10, stack_top
	mov	sp, x10
	mrs	x10, CurrentEL
	cmp	x10, #8
	b.eq	6f
	mrs	x1, ESR_EL1
	mrs	x2, ELR_EL1
	mrs	x3, FAR_EL1
	b	entry_fault
6:	mrs	x1, ESR_EL2
	mrs	x2, ELR_EL2
	mrs	x3, FAR_EL2
	b	entry_fault

	.section .bss.work, "aw", %nobits
	.balign	16
state:	.skip	8 * 19
	.balign	16
	.skip	16384
stack_top:
