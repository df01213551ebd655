import java.math.BigDecimal;
import java.math.BigInteger;
import java.math.MathContext;
import java.math.RoundingMode;
import java.util.List;

/** Converts the numbers of {@code parameters} and {@code engine_settings}. */
final class Numbers {
  /** Returns a double without a fraction as an integer, by its shortest decimal form. */
  static BigInteger integer(double number) {
    for (int digits = 1; ; digits++) {
      for (RoundingMode mode : List.of(RoundingMode.HALF_EVEN, RoundingMode.UP)) { // UP for 2^89
        var rounded = new BigDecimal(number).round(new MathContext(digits, mode));
        if (rounded.doubleValue() == number) return rounded.toBigIntegerExact();
      }
    }
  }
}
